// What must hold for any sentence: nothing of it becomes markup, it fits every screen, it is accessible, it is small.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CHINESE, ENGLISH, makePage, open, read, start, THIRTY, violations } from "./helper.js";

const HOSTILE = [
  "He said </script><script>alert(1)</script> and it was <b>bold</b> & done.",
  `"Quotes" 'and' \`more\` <!-- it --> <img src=x onerror=alert(1)> \u2028 \\u003c ]]> \${it}`,
  "She saw שלום עולם and مرحبا بالعالم before it ended \u202e reversed",
  "她喜欢 👩‍👩‍👧‍👦 和 🇨🇳，因为它们 👍🏽 很可爱 é",
];
let browser;
before(async () => (browser = await start()));
after(() => browser?.close());

for (const text of HOSTILE) {
  test(`shown as text: ${JSON.stringify(text.slice(0, 24))}`, async () => {
    const { page, close } = await open(browser, makePage("look", text));
    const words = await page.$$eval(".asking .word:not(.special) .text", (list) =>
      list.map((node) => node.textContent),
    );
    assert.equal(words.join("").replace(/\s/g, ""), text.replace(/\s/g, ""));
    assert.equal(
      await page.locator("#page script, #page img, #page b:not([class]):not(.sum b)").count(),
      0,
    );
    assert.equal(await page.locator("script").count(), 3);
    await page.click(".ranking button >> nth=0");
    assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
    await close();
  });
}

test("widths from 360 to 1600 pixels, light and dark: nothing sticks out", async () => {
  const path = makePage("look", THIRTY);
  for (const width of [360, 480, 768, 1024, 1600]) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, close } = await open(browser, path, { width, colorScheme });
      await page.click(".ranking button >> nth=0");
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${width}: ${over} pixels too wide`);
      await close();
    }
  }
});

for (const [command, text] of [
  ["look", ENGLISH],
  ["look", CHINESE],
  ["translate", "The cat sits on the mat"],
]) {
  test(`axe finds nothing: qkv ${command} ${text}`, async () => {
    const path = makePage(command, text);
    for (const [language, colorScheme, width] of [
      ["en", "light", 1280],
      ["zh", "dark", 360],
    ]) {
      const { page, close } = await open(browser, path, {
        language,
        colorScheme,
        width,
        bypassCSP: true,
      });
      for (const opened of [false, true]) {
        if (opened) await page.click(".ranking button >> nth=0");
        assert.deepEqual(await violations(page), []);
      }
      await close();
    }
  });
}

test("motion stops for those who want it so", async () => {
  const path = makePage("look", ENGLISH);
  const duration = (page) =>
    page.$eval(".word", (node) => getComputedStyle(node).transitionDuration);
  const still = await open(browser, path);
  assert.match(await duration(still.page), /^0s/);
  await still.close();
  const moving = await open(browser, path, { reducedMotion: "no-preference" });
  assert.match(await duration(moving.page), /0\.2s/);
  await moving.close();
});

test("thirty words are one file under a megabyte that names no other", () => {
  const html = read(makePage("look", THIRTY));
  assert.equal(THIRTY.split(" ").length, 30);
  assert.ok(Buffer.byteLength(html) < 1e6, `${Buffer.byteLength(html)} bytes`);
  const addresses = html.match(/https?:[^"' )%]+/g) ?? [];
  assert.deepEqual([...new Set(addresses)], ["http://www.w3.org/2000/svg"]);
});

test("the longest text of the model opens, and a move over its matrix fits in a frame", async () => {
  const text = Array.from({ length: 60 }, () => "the dog saw it and the cat ran").join(" ");
  const { page, close } = await open(browser, makePage("look", text, "--query", "it"));
  await page.click(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await page.click(".head >> nth=4");
  await page.click(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  const milliseconds = await page.evaluate(() => {
    const canvas = document.querySelector("canvas.matrix");
    const box = canvas.getBoundingClientRect();
    const times = [];
    for (let i = 0; i < 60; ++i) {
      const at = { clientX: box.left + 140 + 9 * i, clientY: box.top + 140 + 9 * i };
      const begin = performance.now();
      canvas.dispatchEvent(new PointerEvent("pointermove", at));
      times.push(performance.now() - begin);
    }
    return times.sort((a, b) => a - b)[30];
  });
  console.log(`a move: median ${milliseconds.toFixed(1)} ms`);
  assert.ok(milliseconds < 1000 / 60);
  await close();
});

// qkv translate --html: the alignment between two sentences.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { makePage, open, qkv, start } from "./helper.js";

const TEXT = "The cat sits on the mat";
let browser;
before(async () => (browser = await start()));
after(() => browser?.close());

test("each word of the translation shows the source words it read", async () => {
  const { page, close } = await open(browser, makePage("translate", TEXT));
  const engine = JSON.parse(qkv("translate", TEXT, "--json"));
  assert.equal(await page.textContent("h1"), `What was read to write ${engine.target[0]}?`);
  for (const [t, word] of engine.target.entries()) {
    await page.click(`.asking .word >> nth=${t}`);
    const shown = await page.$$eval(".ranking li:not(.mark-row, .rest)", (list) =>
      list.map((li) => [
        li.querySelector(".name").textContent,
        li.querySelector(".percent").textContent,
      ]),
    );
    const expected = engine.alignment[t]
      .map((weight, s) => [engine.source[s], weight])
      .filter(([, weight]) => weight >= 0.0005)
      .sort((a, b) => b[1] - a[1])
      .slice(0, 8)
      .map(([name, weight]) => [name, `${(weight * 100).toFixed(1)}%`]);
    assert.deepEqual(shown, expected, word);
  }
  const lines = engine.alignment.flat().filter((weight) => weight >= 0.05).length;
  assert.equal(await page.locator(".lines path").count(), lines);
  await close();
});

test("a word of the drawing asks, and its weight opens with the tick", async () => {
  const { page, close } = await open(browser, makePage("translate", TEXT), { language: "zh" });
  await page.click(".lines text.q >> nth=1");
  assert.equal(
    await page.textContent(".word.asks .text"),
    await page.textContent(".lines text.q.picked"),
  );
  await page.click(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await close();
});

test("sentences of one text are runs of one page", async () => {
  const { page, close } = await open(
    browser,
    makePage("translate", "The dog is big. She gave him the book."),
  );
  assert.equal(await page.locator(".runs button").count(), 2);
  const first = await page.textContent(".read");
  await page.click(".runs button >> nth=1");
  assert.notEqual(await page.textContent(".read"), first);
  assert.equal(await page.getAttribute(".runs button >> nth=1", "aria-pressed"), "true");
  await close();
});

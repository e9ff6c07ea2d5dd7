// qkv find --html: which words and patches each object read, with a small finder of random weights.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { folder, open, qkv, ROOT, start, violations } from "./helper.js";

const MODEL = join(folder, "finder");
const PICTURE = join(MODEL, "wide.png"); // 1500 × 700
const PAGE = join(folder, "find.html");
let browser;
let engine; // what --json says of the same prompts
before(async () => {
  browser = await start();
  execFileSync(join(ROOT, ".venv", "bin", "python"), [join(ROOT, "tests/page/found.py"), MODEL]);
  const prompts = ["red car", "红色的车 </script>"];
  const said = qkv("find", ...prompts, PICTURE, "-m", MODEL, "--show", "--json", "--html", PAGE);
  engine = said.trim().split("\n").map(JSON.parse);
});
after(() => browser?.close());

const percent = (weight) =>
  weight <= 0 ? "0%" : weight < 0.0005 ? "<0.1%" : `${(weight * 100).toFixed(1)}%`;
const rows = (page, list) =>
  page.$$eval(`.rankings > div:nth-child(${list + 1}) .ranking li:not(.rest)`, (items) =>
    items.map((li) => [
      li.querySelector(".name > span").firstChild.textContent,
      li.querySelector(".percent").textContent,
    ]),
  );
const state = (page) =>
  page.evaluate(() => {
    const { asker, layer, head, open: weight, focus } = globalThis.qkv.state();
    return { asker, layer, head, weight, focus };
  });

test("every asker shows the words and patches that the engine says it read, by layer and head", async () => {
  const { page, close } = await open(browser, PAGE);
  assert.equal(await page.textContent("h1"), "What did object 1 read?");
  const [{ read, objects }] = engine;
  const shown = await page.evaluate(() => {
    const { picture, inside } = globalThis.qkv.state().find;
    return [picture.width, picture.height, inside.indexOf(true), inside.lastIndexOf(true)];
  });
  // 16 × 700 / 1500 rows of patches in the middle of 16: 4.27 to 11.73
  assert.deepEqual(shown, [1024, 477, 4 * 16, 12 * 16 - 1]);
  assert.ok(objects.length > 0);
  assert.equal(await page.locator(".asker").count(), objects.length + 1);
  // The page has the objects first, the engine the presence token.
  const order = [...read.asked.slice(1), read.asked[0]];
  for (const [i, asker] of order.entries()) {
    await page.click(`.asker >> nth=${i}`);
    for (const [layer, said] of asker.layers.entries()) {
      for (const head of [-1, 0, 2]) {
        await page.click(`.heads .layer:not(.names) >> nth=${layer} >> .head >> nth=${head + 1}`);
        await page.click(
          `.words-read .layer:not(.names) >> nth=${layer} >> .head >> nth=${head + 1}`,
        );
        const it = head < 0 ? said : said.heads[head];
        const words = it.words.map((weight, key) => [
          [...read.words, ...read.specials][key],
          weight,
        ]);
        const marks = words.splice(read.words.length);
        words.sort((a, b) => b[1] - a[1]);
        assert.deepEqual(
          await rows(page, 0),
          [...words, ...marks].map(([name, weight]) => [name, percent(weight)]),
        );
        const patches = it.patches
          .flat()
          .map((weight, patch) => [`patch ${Math.floor(patch / 16)}·${patch % 16}`, weight])
          .sort((a, b) => b[1] - a[1])
          .slice(0, 6);
        assert.deepEqual(
          (await rows(page, 1)).map((row) => row[1]),
          patches.map((row) => percent(row[1])),
        );
        assert.equal((await rows(page, 1))[0][0], patches[0][0]);
        if (asker.object !== null) {
          const facts = await page.textContent(".facts");
          const said = `${percent(it.on_object)} lies on the object, ${percent(it.by_chance)} would`;
          assert.ok(facts.includes(said), `${facts} does not say: ${said}`);
        }
      }
    }
  }
  await close();
});

test("a patch asks the others in the encoder, its weight opens, Escape goes back", async () => {
  const { page, close } = await open(browser, PAGE);
  const before = await state(page);
  const box = await page.locator("canvas.picture").boundingBox();
  await page.mouse.click(box.x + box.width * 0.4, box.y + box.height * 0.5);
  let now = await state(page);
  assert.equal(now.asker.kind, "patch");
  assert.equal(now.asker.row % 16, 6);
  assert.match(await page.textContent("h1"), /^What did patch \d+·6 read\?$/);
  assert.match(await page.textContent(".source.holds"), /✓ the log-sum-exp of every row/);
  assert.equal(await page.locator(".heads .head").count(), 2 * (3 + 1));
  const sum = await page.evaluate(async () => {
    const { weightsOf } = await import("qkv/find_data.js");
    const { find, layer, head, asker } = globalThis.qkv.state();
    return weightsOf(find, "encoder", layer, head, asker.row).weights.reduce((a, b) => a + b, 0);
  });
  assert.ok(Math.abs(sum - 1) < 1e-9);
  await page.click(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight:not([hidden]) > .verdict.holds").isVisible());
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".weight:not([hidden])").count(), 0);
  await page.keyboard.press("Escape");
  now = await state(page);
  assert.deepEqual(now.asker, before.asker);
  await close();
});

test("words, patches and queries open down to the dot product, and agree with the engine", async () => {
  for (const language of ["en", "zh"]) {
    const { page, close } = await open(browser, PAGE, { language });
    for (const list of [0, 1, 2]) {
      await page.click(`.rankings > div:nth-child(${list + 1}) .ranking button >> nth=0`);
      const verdicts = await page.$$eval(".weight:not([hidden]) .verdict", (all) =>
        all.map((it) => it.className),
      );
      assert.deepEqual(verdicts, ["verdict holds", "verdict holds"]); // the weight and the output
    }
    await close();
  }
});

test("a red mark where the engine's numbers are others", async () => {
  const { page, close } = await open(browser, PAGE);
  await page.evaluate(() => {
    const { find } = globalThis.qkv.state();
    for (const layer of find.streams.encoder) layer.lse.forEach((_, i) => (layer.lse[i] += 0.01));
    for (const layer of find.streams.words)
      layer.engine.forEach((all) => all.forEach((_, i) => (all[i] *= 0.99)));
  });
  await page.click(".ranking button >> nth=0");
  assert.match(
    await page.textContent(".weight:not([hidden]) .verdict.fails"),
    /^✗Recomputed here: DIFFERS/,
  );
  await page.click("canvas.picture");
  assert.match(await page.textContent(".source.fails"), /✗ .* NOT the engine's/);
  await close();
});

test("keyboard alone: askers, patches, a weight, and back", async () => {
  const { page, close } = await open(browser, PAGE);
  await page.focus("canvas.picture");
  await page.keyboard.press("ArrowRight");
  if ((await state(page)).focus === null) await page.keyboard.press("ArrowLeft"); // from the edge
  assert.match(
    await page.textContent(".under.small"),
    /^object 1 → patch (\d+)·(\d+), row \1, column \2 /,
  );
  for (let i = 0; i < 20; ++i) await page.keyboard.press("ArrowUp");
  const { focus } = await state(page);
  const top = await page.evaluate(() => globalThis.qkv.state().find.inside.indexOf(true));
  assert.equal(Math.floor(focus / 16), Math.floor(top / 16)); // the border above the picture is not reached
  await page.keyboard.press("Enter");
  assert.deepEqual((await state(page)).asker, { kind: "patch", row: focus });
  assert.equal(
    await page.evaluate(() => document.activeElement.className),
    "picture",
    "the picture keeps the focus",
  );
  await page.keyboard.press("Escape");
  assert.equal((await state(page)).asker.kind, "query");
  await page.focus(".asker >> nth=1");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.className), "asker");
  await close();
});

test("several prompts are tabs, markup in them stays text, and the language can change", async () => {
  const { page, close } = await open(browser, PAGE);
  assert.equal(await page.locator(".runs button").count(), 2);
  await page.click(".runs button >> nth=1");
  assert.equal(await page.textContent(".prompt q"), "红色的车 </script>");
  await page.click(".language");
  const found = engine[1].objects.length;
  assert.equal(await page.textContent("h1"), `${found ? "物体 1" : "存在标记"} 读了什么？`);
  const result = await page.textContent(".prompt");
  assert.ok(result.includes(found ? `找到 ${found} 个` : "图里"), result);
  assert.equal(await page.getAttribute("html", "lang"), "zh-Hans");
  await close();
});

test("without an object it says whether something may be there", async () => {
  const { page, close } = await open(browser, PAGE);
  const present = await page.evaluate(() => globalThis.qkv.runs().map((find) => find.present));
  assert.deepEqual(present, [true, engine[1].present]);
  for (const [there, said] of [
    [true, " may be in this picture, but no object stands out"],
    [false, " is not in this picture"],
  ]) {
    await page.evaluate(
      (it) => void Object.assign(globalThis.qkv.runs()[0], { objects: [], present: it }),
      there,
    );
    await page.click(".runs button >> nth=0");
    assert.ok((await page.textContent(".prompt")).includes(said), said);
    assert.equal(await page.textContent("h1"), "What did the presence token read?");
  }
  await close();
});

test("an object without a pixel of the page's picture has the whole of it as its sign", async () => {
  const { page, close } = await open(browser, PAGE);
  const boxes = await page.evaluate(async () => {
    const { boxAround } = await import("qkv/find_picture.js");
    const { find } = globalThis.qkv.state();
    const mask = new Uint8Array(find.picture.width * find.picture.height);
    const around = () => boxAround(find, { ...find.objects[0], mask });
    const none = around();
    mask.fill(1, 200 * 1024 + 500, 200 * 1024 + 600); // 100 pixels of row 200
    return [none, around()];
  });
  const [x, y, size] = [550 - 57.5, 200.5 - 57.5, 115];
  assert.deepEqual(boxes[0], { x: 0, y: 0, width: 1024, height: 477 });
  for (const [name, want] of Object.entries({ x, y, width: size, height: size }))
    assert.ok(Math.abs(boxes[1][name] - want) < 1e-9, name);
  await close();
});

test("the picture shows what was read, the masks, or itself", async () => {
  const { page, close } = await open(browser, PAGE);
  const shots = new Set();
  for (const view of ["plain", "masks", "read"]) {
    await page.click(`[data-view=${view}]`);
    shots.add(await page.$eval("canvas.picture", (it) => it.toDataURL()));
  }
  assert.equal(shots.size, 3);
  await page.click("[data-keep=all]"); // those without an object ask, too
  assert.equal(await page.locator(".asker").count(), 1 + 5);
  await close();
});

test("narrow, wide, light and dark: nothing sticks out, axe finds nothing", async () => {
  for (const [language, colorScheme, width] of [
    ["en", "light", 1600],
    ["zh", "dark", 360],
  ]) {
    const { page, close } = await open(browser, PAGE, {
      language,
      colorScheme,
      width,
      bypassCSP: true,
    });
    for (const step of ["", ".ranking button >> nth=0", "canvas.picture"]) {
      if (step) await page.click(step);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${width}: ${over} pixels too wide`);
      assert.deepEqual(await violations(page), []);
    }
    await close();
  }
});

test("a place that cannot be written, and an option without its file, are answered", () => {
  const failed = (...args) => {
    try {
      qkv("find", "red car", PICTURE, "-m", MODEL, ...args);
    } catch (error) {
      return `${error.status} ${error.stderr}`;
    }
    return "0";
  };
  assert.match(failed("--html", "/nowhere/page.html"), /^[1-9]\d* .*cannot write \/nowhere\/page/);
  assert.match(failed("--html"), /^[1-9]\d* .*--html/s);
});

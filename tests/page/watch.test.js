// seen.save of the Python package: what a model read, at any length.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { folder, open, ROOT, start, violations } from "./helper.js";

let browser;
let long; // 4,096 tokens
let grown; // 60 and 20 generated ones, in bfloat16
let slid; // a sliding window, in half precision
let small; // a file with room for few heads
let few; // 6 tokens, less than a block

/** Pages and what the engine says, of one run of Python for all of them. */
function watched(wanted) {
  const names = Object.keys(wanted);
  const path = (name) => join(folder, `${name}.html`);
  const groups = names.flatMap((name, i) => [...(i ? ["+"] : []), path(name), ...wanted[name]]);
  execFileSync(join(ROOT, ".venv", "bin", "python"), [
    join(ROOT, "tests/page/watched.py"),
    ...groups,
  ]);
  const said = (name) => JSON.parse(readFileSync(path(name).replace(".html", ".json"), "utf8"));
  return names.map((name) => ({ path: path(name), said: said(name) }));
}
before(async () => {
  browser = await start();
  [long, grown, slid, small, few] = watched({
    long: ["--dim", "32"],
    grown: ["--tokens", "60", "--generate", "20", "--dtype", "bfloat16"],
    slid: ["--tokens", "160", "--window", "24", "--dtype", "float16"],
    small: ["--tokens", "300", "--megabytes", "0.15"],
    few: ["--tokens", "6"],
  });
});
after(() => browser?.close());

const percent = (weight) =>
  weight <= 0 ? "0%" : weight < 0.0005 ? "<0.1%" : `${(weight * 100).toFixed(1)}%`;
const ready = (page) => page.waitForSelector(".ranking button");
const rows = (page) =>
  page.$$eval(".ranking li", (list) =>
    list.map((li) => [
      li.querySelector("button")?.getAttribute("data-key") ?? "rest",
      li.querySelector(".percent").textContent,
    ]),
  );
const asking = (page) => page.evaluate(() => globalThis.qkv.state().query);

test("4,096 tokens open, and every token shows what the engine says it read", async () => {
  const { page, close } = await open(browser, long.path);
  await ready(page);
  assert.equal(await asking(page), 4095);
  assert.match(await page.textContent("h1"), /^What did \S+ read\?$/);
  assert.match(await page.textContent(".question .intro"), /^LlamaForCausalLM read 4096 tokens/);
  const nodes = await page.locator("*").count();
  assert.ok(nodes < 1500, `${nodes} elements`);
  for (const it of long.said.slice(0, 8)) {
    await page.evaluate(
      ({ layer, head, query }) => globalThis.qkv.change({ at: [layer, head], query }),
      it,
    );
    const expected = it.read.map(([key, weight]) => [String(key), percent(weight)]);
    const shown = await rows(page);
    const [, rest] = shown.pop();
    assert.deepEqual(shown, expected);
    assert.ok(rest === percent(it.remainder) || it.remainder < 1e-6); // rounding
    assert.equal(await page.locator(".token.asks").count(), 1);
    const box = await page.locator(".tokens").boundingBox();
    const token = await page.locator(".token.asks").boundingBox();
    assert.ok(token.y >= box.y && token.y + token.height <= box.y + box.height);
  }
  await close();
});

for (const [name, what] of [
  ["long", () => long],
  ["grown", () => grown],
  ["slid", () => slid],
]) {
  test(`exact tiles and log-sum-exps are the engine's: ${name}`, async () => {
    const { path, said } = what();
    const { page, close } = await open(browser, path);
    await ready(page);
    const found = await page.evaluate(async (places) => {
      const { checkRow, tile, vectors } = await import("qkv/watch_data.js");
      const { layers } = globalThis.qkv.runs()[0];
      let largest = 0;
      let cells = 0;
      let holding = 0;
      for (const it of places) {
        const layer = layers[it.layer];
        const of = vectors(layer, it.head);
        const [q, k] = [it.query, it.first_key];
        const [high, wide] = [it.tile.length, it.tile[0].length];
        const ours = tile(layer, it.head, of, q, q + high, k, k + wide);
        it.tile
          .flat()
          .forEach((weight, i) => (largest = Math.max(largest, Math.abs(weight - ours[i]))));
        cells += ours.length;
        holding += checkRow(layer, it.head, q).holds;
      }
      const of = vectors(layers[0], 0);
      of.lse[3] += 1e-3;
      const changed = checkRow(layers[0], 0, 3).holds;
      of.lse[3] -= 1e-3;
      const last = layers[0].count_queries - 1; // of a generated token, where there are some
      return { largest, cells, holding, changed, last: checkRow(layers[0], 0, last).holds };
    }, said);
    assert.ok(found.cells > 900, `${found.cells} cells`);
    assert.ok(found.largest < 1e-5, `${found.largest}`);
    assert.deepEqual([found.holding, found.changed, found.last], [40, false, true]);
    await close();
  });
}

test("what the file has no room for is said, and carried rows are shown as such", async () => {
  const { page, close } = await open(browser, small.path);
  await ready(page);
  const kinds = await page.evaluate(() =>
    globalThis.qkv.runs()[0].layers.flatMap((it) => it.detail),
  );
  assert.deepEqual([...new Set(kinds)].sort(), ["map", "rows"]);
  const it = small.said.find((one) => kinds[one.layer * 4 + one.head] === "rows");
  await page.evaluate(
    ({ layer, head, query }) => globalThis.qkv.change({ at: [layer, head], query }),
    it,
  );
  const expected = it.read.map(([key, weight]) => [String(key), percent(weight)]);
  assert.deepEqual((await rows(page)).slice(0, expected.length), expected);
  assert.match(await page.textContent(".answer .note"), /^from the engine's trace/);
  const empty = kinds.indexOf("map");
  await page.evaluate((at) => globalThis.qkv.change({ at }), [Math.floor(empty / 4), empty % 4]);
  assert.match(await page.textContent(".answer .note"), /carries only the block map/);
  assert.deepEqual(await rows(page), [["rest", "?"]]);
  await close();
});

test("keyboard alone: tokens, lines, answers, a weight, and back", async () => {
  const { page, close } = await open(browser, long.path);
  await ready(page);
  const press = (key) => page.keyboard.press(key);
  const focused = () => page.evaluate(() => document.activeElement.className);
  await press("Tab"); // the language
  await press("Tab");
  assert.equal(await focused(), "tokens");
  const active = () =>
    page.$eval(".tokens", (box) => {
      const token = document.getElementById(box.getAttribute("aria-activedescendant"));
      return [
        token.getAttribute("aria-selected"),
        token.getAttribute("aria-posinset"),
        token.textContent.length > 0,
      ];
    });
  assert.deepEqual(await active(), ["true", "4096", true]);
  await press("ArrowLeft");
  assert.equal(await asking(page), 4094);
  await press("Home");
  assert.deepEqual([await asking(page), await active()], [0, ["true", "1", true]]);
  await press("ArrowDown");
  const down = await asking(page);
  assert.ok(down > 0 && down < 60);
  await press("PageDown");
  assert.ok((await asking(page)) > down);
  await press("PageUp");
  await press("ArrowUp");
  assert.equal(await asking(page), 0);
  await press("End");
  await press("Enter");
  assert.match(
    await page.evaluate(() => document.activeElement.getAttribute("aria-label")),
    /Open how/,
  );
  await press("ArrowDown");
  await press("ArrowUp");
  await press("Enter");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  assert.equal(await page.locator(".weight .strip").count(), 3);
  await press("Escape");
  assert.ok(await page.locator(".weight").isHidden());
  await press("ArrowUp");
  assert.equal(await focused(), "tokens");
  await close();
});

test("the map comes closer, says exact weights, and opens one", async () => {
  const { page, close } = await open(browser, long.path, { language: "zh" });
  await ready(page);
  const under = () => page.textContent(".map .under");
  await page.focus(".matrix");
  await page.keyboard.press("ArrowUp");
  const [query, key] = (await under()).match(/\((\d+)\)/g).map((it) => Number(it.slice(1, -1)));
  assert.ok(query === 4095 - 64 && key === 0);
  for (let i = 0; i < 9; ++i) await page.keyboard.press("+");
  await page.keyboard.press("ArrowUp");
  assert.ok((await under()).includes(`(${query - 1}) → `));
  await page.keyboard.press("Enter");
  assert.equal(await asking(page), query - 1);
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await page.keyboard.press("Escape");
  await page.click('.map .chip:has-text("全部")');
  const canvas = page.locator(".map .matrix");
  const box = await canvas.boundingBox();
  const place = { x: box.width / 2, y: box.height * 0.7 };
  for (let i = 0; i < 3; ++i) await canvas.click({ position: place }); // closer, closer, the weight
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await close();
});

test("a block map ends where the matrix does", async () => {
  const { page, close } = await open(browser, few.path, {});
  await ready(page);
  await page.waitForFunction(() => {
    const canvas = globalThis.document.querySelector(".map .matrix");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((it, i) => i % 4 === 3 && it > 0);
  });
  const corner = await page.$eval(".map .matrix", (canvas) => {
    const pen = canvas.getContext("2d");
    return [...pen.getImageData(canvas.width - 3, canvas.height - 3, 1, 1).data];
  });
  assert.deepEqual(corner, [0, 0, 0, 0]);
  await close();
});

test("every head has its map and can be chosen; narrow, wide, light and dark; axe finds nothing", async () => {
  for (const [path, language, colorScheme, width] of [
    [long.path, "en", "light", 1600],
    [small.path, "zh", "dark", 360],
  ]) {
    const { page, close } = await open(browser, path, {
      language,
      colorScheme,
      width,
      bypassCSP: true,
    });
    await ready(page);
    assert.equal(await page.locator(".head").count(), 8);
    await page.click(".head >> nth=5");
    assert.equal(await page.getAttribute(".head >> nth=5", "aria-pressed"), "true");
    assert.deepEqual(await page.evaluate(() => globalThis.qkv.state().at), [1, 1]);
    await page.evaluate(() => globalThis.qkv.change({ at: globalThis.qkv.runs()[0].open }));
    for (const opened of [false, true]) {
      if (opened) await page.click(".ranking button >> nth=0");
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${width}: ${over} pixels too wide`);
      assert.deepEqual(await violations(page), []);
    }
    await page.click(".language");
    assert.equal(await page.getAttribute("html", "lang"), language === "en" ? "zh-Hans" : "en");
    await close();
  }
});

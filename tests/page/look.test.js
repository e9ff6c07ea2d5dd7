// qkv look --html: every interaction of the page, in Chromium without network.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CHINESE, ENGLISH, makePage, open, qkv, start, THIRTY } from "./helper.js";

let browser;
let pages;
before(async () => {
  browser = await start();
  pages = { en: makePage("look", ENGLISH), zh: makePage("look", CHINESE) };
});
after(() => browser?.close());

const rows = (page) =>
  page.$$eval(".ranking li", (list) =>
    list.map((li) => [
      li.querySelector(".name").childNodes[0].textContent,
      li.querySelector(".percent").textContent,
    ]),
  );
const percent = (weight) =>
  weight <= 0 ? "0%" : weight < 0.0005 ? "<0.1%" : `${(weight * 100).toFixed(1)}%`;
const asking = (page) => page.$eval(".word.asks .text", (node) => node.textContent);

for (const [text, sentence, asks] of [
  ["en", ENGLISH, "it"],
  ["zh", CHINESE, "它"],
]) {
  for (const language of ["en", "zh"]) {
    test(`opens with the question: ${text} sentence, ${language} page`, async () => {
      const { page, close } = await open(browser, pages[text], { language });
      const engine = JSON.parse(qkv("look", sentence, "--json")).asked[0];
      assert.equal(await asking(page), asks);
      const title = await page.textContent("h1");
      assert.equal(title, language === "en" ? `What did ${asks} read?` : `${asks} 读了什么？`);
      assert.equal(await page.title(), `${asks} · qkv`);
      assert.equal(await page.getAttribute("html", "lang"), language === "en" ? "en" : "zh-Hans");
      const shown = await rows(page);
      const expected = [...engine.read, ...engine.specials].map((it) => [
        it.word,
        percent(it.weight),
      ]);
      assert.deepEqual(shown.slice(0, -1), expected);
      assert.equal(shown.at(-1)[0], language === "en" ? "the rest" : "其余");
      // Letters as well as colours.
      assert.equal(await page.textContent(".word.asks .letter"), "Q");
      assert.deepEqual(
        await page.$$eval(".cards .badge", (list) => list.map((b) => b.textContent)),
        ["Q", "K", "V"],
      );
      const right = `${Math.round(engine.score * 100)}%`;
      assert.ok((await page.textContent(".through")).includes(right));
      await close();
    });
  }
}

test("every word can ask, and reads what the engine says", async () => {
  const { page, close } = await open(browser, pages.en);
  for (const word of ["cat", "mat", "tired"]) {
    const engine = JSON.parse(qkv("look", ENGLISH, "--query", word, "--json")).asked;
    await page.click(`.word:has-text("${word}")`);
    assert.equal(await asking(page), word);
    const [name, weight] = (await rows(page))[0];
    assert.deepEqual([name, weight], [engine[0].read[0].word, percent(engine[0].read[0].weight)]);
    assert.equal(await page.locator(".through .chip").count(), engine.length);
    await page.click(".through .chip >> nth=1");
    const [second] = await rows(page);
    assert.deepEqual(second, [engine[1].read[0].word, percent(engine[1].read[0].weight)]);
    await page.click(".through .chip >> nth=0");
  }
  await close();
});

test("keyboard alone: words, answers, a weight, and back", async () => {
  const { page, close } = await open(browser, pages.en);
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Tab"); // the language
  await page.keyboard.press("Tab");
  assert.match(await focused(), /^it/);
  await page.keyboard.press("ArrowLeft");
  assert.equal(await asking(page), "because");
  await page.keyboard.press("Home");
  assert.equal(await asking(page), "The");
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowLeft");
  for (let i = 0; i < 4; ++i) await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowRight");
  assert.equal(await asking(page), "it");
  await page.keyboard.press("ArrowDown");
  assert.match(await focused(), /^cat/);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  assert.match(await focused(), /^cat/);
  await page.keyboard.press("Enter");
  assert.equal(await page.textContent(".weight h2"), "One weight, from the bottom up");
  assert.match(await focused(), /^One weight/);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator(".weight").isHidden());
  assert.match(await focused(), /^cat/);
  await page.keyboard.press("ArrowUp");
  assert.match(await focused(), /^it/);
  await close();
});

test("hovering isolates, leaving and Escape go back", async () => {
  const { page, close } = await open(browser, pages.zh, { language: "zh" });
  const dim = () => page.locator(".word.dim").count();
  await page.hover(".ranking button >> nth=0");
  assert.ok((await dim()) > 8);
  assert.equal(await page.locator('.word.dim:has-text("苹果")').count(), 0);
  await page.mouse.move(2, 2);
  assert.equal(await dim(), 0);
  await page.focus(".ranking button >> nth=0");
  assert.ok((await dim()) > 8);
  await page.keyboard.press("Escape");
  assert.equal(await dim(), 0);
  await close();
});

test("a tap on a narrow screen asks and opens", async () => {
  const { page, close } = await open(browser, pages.zh, {
    width: 360,
    height: 740,
    hasTouch: true,
    isMobile: true,
  });
  await page.tap('.word:has-text("苹果")');
  assert.equal(await asking(page), "苹果");
  await page.tap(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await close();
});

test("a screen reader hears the ranking", async () => {
  const { page, close } = await open(browser, pages.en);
  assert.equal(await page.getByRole("list", { name: "What it read, strongest first" }).count(), 1);
  assert.equal(
    await page.getByRole("button", { name: "cat, 100.0%. Open how it came to read it" }).count(),
    1,
  );
  assert.match(
    await page.textContent(".question [role=status]"),
    /^What did it read\? cat 100\.0%/,
  );
  assert.equal(await page.getByRole("button", { pressed: true, name: /^it/ }).count(), 1);
  await close();
});

test("the grid has every head with its measured role, and chooses", async () => {
  const { page, close } = await open(browser, pages.en);
  const { heads } = JSON.parse(qkv("look", ENGLISH, "--heads", "--json"));
  const cells = await page.$$eval(".head", (list) =>
    list.map((cell) => cell.getAttribute("aria-label")),
  );
  assert.equal(cells.length, heads.length);
  heads.forEach((head, i) => {
    const role = head.roles[0];
    assert.ok(cells[i].startsWith(`layer ${head.layer}, head ${head.head}, `));
    assert.ok(
      cells[i].includes(
        `right ${Math.round(role.score * 100)}%, by chance ${Math.round(role.chance * 100)}%`,
      ),
    );
    const asked = head.asked[0];
    const best = [...asked.read, ...asked.specials].sort((a, b) => b.weight - a.weight)[0];
    assert.ok(
      cells[i].endsWith(`${best.word} ${percent(best.weight)}`),
      `${cells[i]} ${JSON.stringify(best)}`,
    );
  });
  await page.click(".head >> nth=9");
  assert.equal(await page.getAttribute(".head >> nth=9", "aria-pressed"), "true");
  const [name, weight] = (await rows(page))[0];
  assert.deepEqual(
    [name, weight],
    [heads[9].asked[0].read[0].word, percent(heads[9].asked[0].read[0].weight)],
  );
  assert.ok((await page.textContent(".one-head .note")).startsWith("layer 1, head 1"));
  await close();
});

test("the matrix says what is under the pointer, changes its scale and opens a weight", async () => {
  const { page, close } = await open(browser, pages.en);
  const { matrix, words, specials } = JSON.parse(
    qkv("look", ENGLISH, "--layer", "3", "--head", "0", "--json"),
  );
  const names = [...words, ...specials.map((it) => it.word)];
  const canvas = page.locator("canvas.matrix");
  await canvas.focus();
  await page.keyboard.press("ArrowRight");
  const it = words.indexOf("it");
  const under = () => page.textContent(".under");
  assert.equal(await under(), `it → ${names[1]}  ${percent(matrix.weights[it][1])}`);
  for (let i = 0; i < 30; ++i) await page.keyboard.press("ArrowRight");
  assert.equal(await under(), `it → ${names.at(-1)}  ${percent(matrix.weights[it].at(-1))}`);
  const picture = () => canvas.evaluate((node) => node.toDataURL());
  const linear = await picture();
  await page.click('.one-head .chip:has-text("logarithmic")');
  assert.notEqual(await picture(), linear);
  await page.click('.one-head .chip:has-text("linear")');
  const box = await canvas.boundingBox();
  await canvas.hover({ position: { x: box.width / 2, y: box.height / 2 } });
  assert.match(await under(), /^\S+ → \S+ {2}/);
  const [asks, reads] = (await under()).split(/ → | {2}/);
  await canvas.click({ position: { x: box.width / 2, y: box.height / 2 } });
  assert.ok(
    (await page.textContent(".weight .intro")).startsWith(`How ${asks} came to read ${reads}.`),
  );
  await close();
});

test("an opened weight is the engine's own, step by step", async () => {
  const { page, close } = await open(browser, pages.en);
  const engine = JSON.parse(
    qkv("look", ENGLISH, "--explain", "--query", "it", "--key", "cat", "--json"),
  );
  await page.click(".ranking button >> nth=0");
  const numbers = (await page.$$eval(".sum b", (list) => list.map((b) => b.textContent))).map(
    (text) => Number(text.replace("−", "-")),
  );
  assert.ok(
    Math.abs(numbers[0] - engine.dot) < 0.001 && Math.abs(numbers[1] - engine.score) < 0.001,
  );
  const table = await page.$$eval(".weight tbody tr", (list) =>
    list.map((tr) => [
      tr.querySelector("th").textContent,
      tr.querySelector(".percent").textContent,
    ]),
  );
  const rivals = engine.rivals.toSorted((a, b) => b.weight - a.weight).slice(0, table.length);
  assert.deepEqual(
    table,
    rivals.map((rival) => [rival.piece, percent(rival.engine)]),
  );
  assert.equal(await page.locator(".weight .strip").count(), 6);
  assert.ok(
    (await page.textContent(".verdict")).startsWith("✓Recomputed here: agrees with the engine"),
  );
  await close();
});

/** Of 1,000 random rows those in which a function of qkv/weight.js agrees with the engine by less than `least`. */
const agreeing = (page, name, least) =>
  page.evaluate(
    async ([name, least]) => {
      const check = (await import("qkv/weight.js"))[name];
      const [run] = globalThis.qkv.runs();
      let seed = 1;
      const random = (below) => {
        seed = (seed * 48271) % 2147483647;
        return seed % below;
      };
      let holding = 0;
      for (let i = 0; i < 1000; ++i) {
        const layer = run.layers[random(run.layers.length)];
        const result = check(layer, random(layer.heads), random(layer.queries));
        holding += result.holds && result.difference < least;
      }
      return holding;
    },
    [name, least],
  );

test("the recomputation agrees on 1,000 random cells, and not where a number is changed", async () => {
  const { page, close } = await open(browser, pages.zh);
  assert.equal(await agreeing(page, "check", 1e-5), 1000);
  const found = await page.evaluate(async () => {
    const { check } = await import("qkv/weight.js");
    const layer = globalThis.qkv.runs()[0].layers[3];
    layer.q[5] *= 1.001;
    const changed = check(layer, 0, 0).holds;
    layer.q[5] /= 1.001;
    layer.engine[2][7] += 1e-5;
    return { changed, weight: check(layer, 2, 0).holds };
  });
  assert.deepEqual(found, { changed: false, weight: false });
  await close();
});

test("the output agrees with the engine's own in 1,000 random rows, and not where it is changed", async () => {
  const { page, close } = await open(browser, pages.en);
  assert.equal(await agreeing(page, "checkOutput", 1e-4), 1000);
  const changed = await page.evaluate(async () => {
    const { checkOutput } = await import("qkv/weight.js");
    const layer = globalThis.qkv.runs()[0].layers[3];
    layer.out[0][5] += 1e-4;
    return checkOutput(layer, 0, 0).holds;
  });
  assert.equal(changed, false);
  await page.evaluate(() => globalThis.qkv.runs()[0].layers[3].out[0].fill(1));
  await page.click(".ranking button >> nth=0");
  assert.match(await page.textContent(".step.three .verdict.fails"), /^✗The output DIFFERS/);
  assert.equal(await page.locator(".verdict.holds").count(), 1); // the weights still agree
  await close();
});

test("numbers of a long sentence that the page recomputes are named and held to the log-sum-exp", async () => {
  const { page, close } = await open(browser, makePage("look", THIRTY));
  assert.equal(await page.locator(".source").count(), 0); // the head that opens is carried
  await page.click(".head >> nth=4");
  const said = await page.textContent(".through .source");
  assert.match(said, /^weights recomputed in this page from q and k · ✓/);
  assert.equal(await page.textContent(".one-head .source"), said);
  const { heads } = JSON.parse(qkv("look", THIRTY, "--heads", "--json"));
  const engine = heads[4].asked[0].read;
  assert.deepEqual(
    (await rows(page)).slice(0, engine.length),
    engine.map((it) => [it.word, percent(it.weight)]),
  );
  await page.evaluate(() => {
    const [run] = globalThis.qkv.runs();
    run.layers[0].lse[5 * run.layers[0].queries] += 0.01;
    run.layers[0].weights[5] = null; // computed once more
  });
  await page.click(".head >> nth=5");
  assert.match(await page.textContent(".through .source.fails"), /✗ .* NOT the engine's/);
  await close();
});

test("what was learned: the same sentence before training, from the engine", async () => {
  for (const language of ["en", "zh"]) {
    const { page, close } = await open(browser, pages[language], { language });
    await page.click(".dot >> nth=7");
    const columns = await page.$$eval(".pair > div", (list) =>
      list.map((column) => [...column.querySelectorAll(".percent")].map((it) => it.textContent)),
    );
    const { sum, trained, before, heads } = await page.evaluate(async () => {
      const { toWords, wordWeights } = await import("qkv/data.js");
      const { run, word, at } = globalThis.qkv.state();
      const [l, h] = at;
      const columns = run.key.words.length;
      const row = (all) => [...all.subarray(word * columns, (word + 1) * columns)];
      const then = row(toWords(run, run.layers[l], run.untrained[l][h]));
      return {
        sum: then.reduce((a, b) => a + b, 0),
        trained: row(wordWeights(run, l, h)),
        before: then,
        heads: run.untrained.flat().filter((it) => it !== null).length,
      };
    });
    assert.equal(heads, 32);
    assert.ok(Math.abs(sum - 1) < 1e-5);
    assert.deepEqual(columns, [before.map(percent), trained.map(percent)]);
    // Random weights prefer no word as training made this head prefer one.
    assert.ok(Math.max(...trained) > 0.9 && Math.max(...before) < 0.5);
    await close();
  }
});

test("a red mark where the engine's number is another", async () => {
  const { page, close } = await open(browser, pages.zh);
  await page.evaluate(() => {
    const layer = globalThis.qkv.runs()[0].layers[3];
    layer.engine[0].forEach((_, i) => (layer.engine[0][i] *= 0.999));
  });
  await page.click(".ranking button >> nth=0");
  assert.match(await page.textContent(".verdict.fails"), /^✗Recomputed here: DIFFERS/);
  await close();
});

test("the other language is one press away, and stays picked", async () => {
  const { page, close } = await open(browser, pages.en);
  await page.click('.word:has-text("mat")');
  await page.click(".language");
  assert.equal(await page.textContent("h1"), "mat 读了什么？");
  assert.equal(await page.evaluate(() => document.activeElement.className), "language");
  await page.keyboard.press("Enter");
  assert.equal(await page.textContent("h1"), "What did mat read?");
  await close();
});

test("the tour has eight steps on this sentence, and leaving out √d_k saturates", async () => {
  for (const language of ["en", "zh"]) {
    const { page, close } = await open(browser, pages[language], { language });
    const titles = new Set();
    for (let step = 1; step <= 8; ++step) {
      const title = await page.textContent(".stage h3");
      assert.ok(title.startsWith(`${step} · `));
      titles.add(title);
      assert.ok((await page.locator(".figure > *").count()) > 0);
      if (step < 8) await page.click(".stage .chip >> nth=1");
    }
    assert.equal(titles.size, 8);
    await page.click(".head >> nth=4"); // a head that reads several words
    await page.click(".dot >> nth=2");
    const read = async () => {
      const texts = await page.$$eval(".figures dd", (list) => list.map((dd) => dd.textContent));
      return texts.map((text) => Number.parseFloat(text.replace("−", "-")));
    };
    const [factor, spread, largest, words, gradient] = await read();
    assert.ok(Math.abs(factor - 1 / Math.sqrt(32)) < 0.001);
    await page.focus("#scale");
    await page.keyboard.press("End");
    const bare = await read();
    assert.equal(bare[0], 1);
    assert.ok(bare[1] > spread * 5 && bare[2] > largest && bare[3] < words && bare[4] < gradient);
    await close();
  }
});

// One weight from the bottom up: query_dot_keys → softmax → weighted_sum_values, recomputed here and held to the engine's.
import { rowOf, strongestPair, wordWeights } from "qkv/data.js";
import { el, goTo, openedView } from "qkv/dom.js";
import { agreement, outputAgreement, softmaxRow, weighted_sum_values } from "qkv/math.js";
import { headLine } from "qkv/question.js";
import { largestOf, strip } from "qkv/strips.js";
import { number, percent } from "qkv/text.js";

/** @typedef {import("qkv/main.js").State} State */

const MOST_RIVALS = 12;

/** Recomputes the row of one query and compares it with the engine. @param {import("qkv/data.js").Layer} layer @param {number} head
 * @param {number} query */
export function check(layer, head, query) {
  const row = softmaxRow(layer, head, query);
  return { row, ...agreement(layer, head, query, row, layer.engine[head]) };
}

/** The same for the output, where the page carries the engine's; else null. @param {import("qkv/data.js").Layer} layer
 * @param {number} head @param {number} query */
export function checkOutput(layer, head, query) {
  const engine = layer.out[head];
  if (!engine) return null;
  const { row, bounds } = check(layer, head, query);
  const ours = weighted_sum_values(layer, head, row.weights);
  return outputAgreement(layer, head, query, row.weights, bounds, ours, engine);
}

/** A tick or a red mark. @param {boolean} holds @param {string} text */
const verdict = (holds, text) =>
  el(
    "p",
    { class: `verdict ${holds ? "holds" : "fails"}` },
    el("b", { "aria-hidden": "true" }, holds ? "✓" : "✗"),
    text,
  );
/** @param {number} difference */
const digitsOf = (difference) =>
  difference === 0 ? "0" : difference.toExponential(1).replace("-", "−");

/** @param {string} letter @param {string} title @param {string} text @param {...(Node | Node[] | null)} children */
const step = (letter, title, text, ...children) =>
  el(
    "div",
    { class: `step ${letter}` },
    el("h3", {}, title),
    el("p", { class: "note" }, text),
    ...children,
  );

/** @param {string} kind @param {string} letter @param {string} label @param {SVGElement | HTMLElement} picture */
const vector = (kind, letter, label, picture) =>
  el(
    "div",
    { class: "vector" },
    el("p", {}, letter ? el("b", { class: `badge ${kind}` }, letter) : null, label),
    picture,
  );

/** @param {State} first @returns {import("qkv/main.js").View} */
export function weightView(first) {
  const { run, say } = first;
  const node = el("section", { class: "weight", hidden: true });

  /** @param {State} state */
  function fill(state) {
    const key = /** @type {number} */ (state.open);
    const [l, head] = state.at;
    const layer = run.layers[l];
    const asks = run.query.words[state.word].text;
    const reads = run.key.words[key].text;
    const pair = strongestPair(run, l, head, state.word, key);
    const found = check(layer, head, pair.query);
    const { row } = found;
    const q = rowOf(layer.q, head, layer.queries, layer.dim_k, pair.query);
    const k = rowOf(layer.k, head, layer.keys, layer.dim_k, pair.key);
    const v = rowOf(layer.v, head, layer.keys, layer.dim_v, pair.key);
    const products = Float64Array.from(q, (value, d) => value * k[d]);
    const weighted = Float64Array.from(v, (value) => value * row.weights[pair.key]);
    const output = weighted_sum_values(layer, head, row.weights);
    const most = largestOf(q, k);
    const engine = layer.engine[head];
    const several =
      run.query.words[state.word].pieces.length > 1 || run.key.words[key].pieces.length > 1;

    const rivals = [...row.weights]
      .map((weight, i) => ({ weight, i }))
      .sort((a, b) => b.weight - a.weight || a.i - b.i);
    const shown = rivals.slice(0, MOST_RIVALS);
    if (!shown.some((it) => it.i === pair.key))
      shown[shown.length - 1] = rivals.find((it) => it.i === pair.key) ?? shown[0];
    const table = el(
      "table",
      {},
      el("caption", { class: "hidden" }, say.rivals),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, "K"),
          el("th", { scope: "col" }, "q·k"),
          el("th", { scope: "col" }, say.scaled),
          el("th", { scope: "col" }, say.exp),
          el("th", { scope: "col", class: "wide" }, say.share),
        ),
      ),
      el(
        "tbody",
        {},
        shown.map(({ weight, i }) =>
          el(
            "tr",
            { class: i === pair.key ? "picked" : "" },
            el("th", { scope: "row", dir: "auto" }, run.key.pieces[i].text),
            el("td", {}, number(row.dots[i], 2)),
            el("td", {}, number(row.scores[i], 3)),
            el("td", {}, number(row.exponentials[i], 4)),
            el(
              "td",
              { class: "wide" },
              el("span", { class: "track" }, el("span", { class: "fill", "--w": weight })),
              el(
                "span",
                { class: "percent" },
                percent(engine ? engine[pair.query * layer.keys + i] : weight),
              ),
            ),
          ),
        ),
      ),
    );

    const digits = digitsOf(found.difference);
    const agrees = engine ? say.agrees(digits) : say.agreesLse;
    const given = checkOutput(layer, head, pair.query);
    const heading = el("h2", { tabindex: -1 }, say.weight);
    node.replaceChildren(
      el(
        "div",
        { class: "heading" },
        heading,
        el(
          "button",
          {
            type: "button",
            class: "chip",
            title: say.escape,
            onclick: () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })),
          },
          say.close,
        ),
      ),
      el("p", { class: "intro" }, say.weightIntro(asks, reads), " ", headLine(state)),
      // Patches and queries have no pieces.
      run.kind === "find" && !several
        ? ""
        : el(
            "p",
            { class: "note" },
            say.pieces(run.query.pieces[pair.query].text, run.key.pieces[pair.key].text),
            several
              ? ` ${say.together(percent(wordWeights(run, l, head)[state.word * run.key.words.length + key]))}`
              : null,
          ),
      verdict(found.holds, found.holds ? agrees : say.differs(digits)),
      el(
        "div",
        { class: "steps" },
        step(
          "one",
          `1 · ${say.step1}`,
          say.step1Text,
          vector("q", "Q", asks, strip(q, "q", `q ${asks}`, most)),
          vector("k", "K", reads, strip(k, "k", `k ${reads}`, most)),
          vector("plain", "", say.product, strip(products, "plain", say.product)),
          el(
            "p",
            { class: "sum" },
            el("span", {}, `${say.sum} `, el("b", {}, number(row.dots[pair.key]))),
            el("span", {}, `÷ √${layer.dim_k} = `, el("b", {}, number(row.scores[pair.key]))),
          ),
          el("p", { class: "note" }, row.dots[pair.key] === -Infinity ? say.masked : say.noMask),
        ),
        step(
          "two",
          `2 · ${say.step2}`,
          say.step2Text,
          el(
            "div",
            { class: "scroll", tabindex: 0, role: "region", "aria-label": say.rivals },
            table,
          ),
        ),
        step(
          "three",
          `3 · ${say.step3}`,
          say.step3Text,
          vector(
            "v",
            "V",
            `${say.value} · ${reads}`,
            strip(v, "v", say.value, largestOf(v, output)),
          ),
          vector(
            "v",
            "",
            `${say.times} · ${percent(row.weights[pair.key])}`,
            strip(weighted, "v", say.times, largestOf(v, output)),
          ),
          vector("v", "", say.output, strip(output, "v", say.output, largestOf(v, output))),
          given
            ? verdict(
                given.holds,
                (given.holds ? say.outputAgrees : say.outputDiffers)(digitsOf(given.difference)),
              )
            : el("p", { class: "note" }, say.noOutput),
        ),
      ),
    );
    goTo(node, heading);
  }

  return openedView(
    node,
    (state) => (state.open === null ? "" : `${state.word} ${state.at} ${state.open}`),
    fill,
  );
}

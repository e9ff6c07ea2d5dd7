// The guided tour: eight steps through one attention, with the numbers of the word that asks.
import { reading, rowOf, strongestPair, toWords, wordWeights } from "qkv/data.js";
import { el } from "qkv/dom.js";
import { dot, gradientNorm, softmaxRow } from "qkv/math.js";
import { strip } from "qkv/strips.js";
import { number, percent, roleName, wholePercent } from "qkv/text.js";
import { TOURS } from "qkv/tour_text.js";

/** @typedef {import("qkv/main.js").State} State */

const MOST = 14; // rows of a list of pieces

/** Rows with a name, a bar from 0 and a number. @param {{name: string, share: number, text: string}[]} items @param {string} [kind] */
const bars = (items, kind = "k") =>
  el(
    "ul",
    { class: `bars ${kind}` },
    items.map(({ name, share, text }) =>
      el(
        "li",
        {},
        el("span", { class: "name", dir: "auto" }, name),
        el(
          "span",
          { class: "track" },
          el("span", { class: "fill", "--w": Math.max(0, Math.min(1, share)) }),
        ),
        el("span", { class: "percent" }, text),
      ),
    ),
  );

/** @param {{name: string, value: string}[]} facts */
const figures = (facts) =>
  el(
    "dl",
    { class: "figures" },
    facts.map(({ name, value }) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );

/** @param {ArrayLike<number>} values */
function deviation(values) {
  const list = Array.from(values).filter(Number.isFinite);
  const mean = list.reduce((sum, it) => sum + it, 0) / list.length;
  return Math.sqrt(list.reduce((sum, it) => sum + (it - mean) ** 2, 0) / list.length);
}

/** What every step draws from. @param {State} state */
function facts(state) {
  const { run, word, at } = state;
  const [l, head] = at;
  const layer = run.layers[l];
  const { read, specials } = reading(run, l, head, word);
  const strongest = (read[0] ?? specials[0]).index;
  const pair = strongestPair(run, l, head, word, strongest);
  const row = softmaxRow(layer, head, pair.query);
  const order = Array.from(row.weights.keys())
    .sort((a, b) => row.weights[b] - row.weights[a] || a - b)
    .slice(0, MOST);
  order.sort((a, b) => a - b);
  return { run, word, l, head, layer, strongest, pair, row, order };
}

/** @typedef {ReturnType<typeof facts>} Facts */
/** @typedef {(state: State, it: Facts) => Node[]} Drawing */

/** The step with the slider. @type {Drawing} */
function scaling(state, it) {
  const say = TOURS[state.language];
  const box = el("div", { class: "live-figure", "aria-live": "polite" });
  const slider = /** @type {HTMLInputElement} */ (
    el("input", { type: "range", min: 0, max: 100, value: 0, id: "scale" })
  );
  const update = () => {
    // From the model's own 1/√d_k, geometrically, to 1.
    const scale = it.layer.scale ** (1 - Number(slider.value) / 100);
    const row = softmaxRow(it.layer, it.head, it.pair.query, scale);
    let entropy = 0;
    for (const p of row.weights) if (p > 0) entropy -= p * Math.log(p);
    box.replaceChildren(
      figures([
        { name: say.factor, value: number(scale, 3) },
        { name: say.variance, value: number(deviation(row.scores), 2) },
        { name: say.largest, value: percent(Math.max(...row.weights)) },
        { name: say.effective, value: number(Math.exp(entropy), 2) },
        { name: say.gradient, value: number(gradientNorm(row.weights), 4) },
      ]),
      bars(
        it.order.map((key) => ({
          name: it.run.key.pieces[key].text,
          share: row.weights[key],
          text: percent(row.weights[key]),
        })),
      ),
    );
    slider.setAttribute("aria-valuetext", `× ${number(scale, 3)}`);
  };
  slider.addEventListener("input", update);
  update();
  return [
    el(
      "label",
      { for: "scale", class: "slider" },
      el("span", { class: "note" }, say.slider),
      el("span", { class: "ends" }, say.withScale, slider, say.without),
    ),
    box,
  ];
}

/** @type {Drawing[]} */
const DRAWINGS = [
  (state, it) => {
    const q = rowOf(it.layer.q, it.head, it.layer.queries, it.layer.dim_k, it.pair.query);
    return [
      el(
        "p",
        { class: "note" },
        el("b", { class: "badge q" }, "Q"),
        ` ${it.run.query.words[it.word].text}`,
      ),
      strip(q, "q", "Q"),
      el("p", { class: "numbers" }, Array.from(q, (value) => number(value, 2)).join("  ")),
    ];
  },
  (_, it) => {
    const most = Math.max(...it.order.map((key) => Math.abs(it.row.dots[key])), 1e-30);
    return [
      bars(
        it.order.map((key) => ({
          name: it.run.key.pieces[key].text,
          share: it.row.dots[key] / most,
          text: number(it.row.dots[key], 2),
        })),
      ),
    ];
  },
  scaling,
  (_, it) => [
    bars(
      it.order.map((key) => ({
        name: it.run.key.pieces[key].text,
        share: it.row.weights[key],
        text: percent(it.row.weights[key]),
      })),
    ),
  ],
  (state, it) => {
    const k = rowOf(it.layer.k, it.head, it.layer.keys, it.layer.dim_k, it.pair.key);
    const v = rowOf(it.layer.v, it.head, it.layer.keys, it.layer.dim_v, it.pair.key);
    const name = it.run.key.words[it.strongest].text;
    const vector = (/** @type {string} */ letter, /** @type {Float32Array} */ values) => [
      el(
        "p",
        { class: "note" },
        el("b", { class: `badge ${letter.toLowerCase()}` }, letter),
        ` ${name}`,
      ),
      strip(values, letter.toLowerCase(), `${letter} ${name}`),
    ];
    const cosine = k.length === v.length ? dot(k, v) / Math.sqrt(dot(k, k) * dot(v, v)) : NaN;
    return [
      ...vector("K", k),
      ...vector("V", v),
      Number.isNaN(cosine)
        ? ""
        : figures([{ name: TOURS[state.language].cosine, value: number(cosine, 3) }]),
    ].map((child) => (typeof child === "string" ? document.createTextNode(child) : child));
  },
  (state, it) => [
    bars(
      Array.from({ length: it.layer.heads }, (_, head) => {
        const { read, specials } = reading(it.run, it.l, head, it.word, 1);
        const best = [...read, ...specials].sort((a, b) => b.weight - a.weight)[0];
        const role = it.layer.roles[head][0];
        const name = `${head}${role ? ` · ${roleName(state.language, role.role)}` : ""}`;
        return {
          name,
          share: best.weight,
          text: `${it.run.key.words[best.index].text} ${percent(best.weight)}`,
        };
      }),
    ),
  ],
  (state, it) => {
    const say = TOURS[state.language];
    return [
      figures([
        { name: `Q · ${say.queries}`, value: it.run.query.text },
        { name: `K, V · ${say.keys}`, value: it.run.key.text },
        { name: "Q × K", value: `${it.layer.queries} × ${it.layer.keys}` },
      ]),
    ];
  },
  (state, it) => {
    const say = TOURS[state.language];
    const { untrained, fitting, layers, key } = it.run;
    // Above a few thousand weights the page carries those before training of the heads that it opens with.
    const [l, head] = untrained?.[it.l][it.head]
      ? [it.l, it.head]
      : (fitting[it.word]?.[0] ?? [it.l, it.head]);
    const role = layers[l].roles[head][0];
    const before = untrained?.[l][head];
    const first = it.word * key.words.length;
    const now = wordWeights(it.run, l, head).subarray(first, first + key.words.length);
    const then =
      before && toWords(it.run, layers[l], before).subarray(first, first + key.words.length);
    const order = [...now.keys()]
      .sort((a, b) => now[b] + (then?.[b] ?? 0) - now[a] - (then?.[a] ?? 0) || a - b)
      .slice(0, MOST)
      .sort((a, b) => a - b);
    const column = (
      /** @type {string} */ title,
      /** @type {Float32Array} */ row,
      /** @type {string} */ kind,
    ) =>
      el(
        "div",
        {},
        el("h4", {}, title),
        bars(
          order.map((i) => ({ name: key.words[i].text, share: row[i], text: percent(row[i]) })),
          kind,
        ),
      );
    return [
      el(
        "p",
        { class: "note" },
        `${state.say.head(l, head)}${role ? ` · ${roleName(state.language, role.role)}` : ""}`,
      ),
      then
        ? el(
            "div",
            { class: "pair" },
            column(say.before, then, "grey"),
            column(say.after, now, "k"),
          )
        : el("p", { class: "note" }, say.noBefore),
      role && el("p", { class: "note" }, say.measured),
      role &&
        bars(
          [
            { name: say.right, share: role.score, text: wholePercent(role.score) },
            { name: say.chance, share: role.chance, text: wholePercent(role.chance) },
          ],
          "v",
        ),
    ].filter((child) => child instanceof Node);
  },
];

/** @param {State} first @returns {import("qkv/main.js").View} */
export function tourView(first) {
  const say = TOURS[first.language];
  let at = 0;
  let drawn = "";
  let state = first;
  const heading = el("h3", { tabindex: -1 });
  const text = el("p", { class: "intro" });
  const figure = el("div", { class: "figure" });
  const dots = say.steps.map((step, i) =>
    el(
      "button",
      {
        type: "button",
        class: "dot",
        "aria-label": `${i + 1}. ${step.title}`,
        onclick: () => go(i),
      },
      String(i + 1),
    ),
  );
  const back = /** @type {HTMLButtonElement} */ (
    el("button", { type: "button", class: "chip", onclick: () => go(at - 1) }, say.back)
  );
  const next = /** @type {HTMLButtonElement} */ (
    el("button", { type: "button", class: "chip", onclick: () => go(at + 1) }, say.next)
  );
  /** @param {number} wanted */
  function go(wanted) {
    at = Math.max(0, Math.min(say.steps.length - 1, wanted));
    drawn = "";
    draw(state);
    heading.focus({ preventScroll: true });
  }
  /** @param {State} now */
  function draw(now) {
    state = now;
    const shown = `${at} ${now.word} ${now.at}`;
    if (shown === drawn) return;
    drawn = shown;
    const step = say.steps[at];
    heading.textContent = `${at + 1} · ${step.title}`;
    heading.setAttribute("aria-label", `${say.step(at + 1)}: ${step.title}`);
    text.textContent = step.text;
    figure.replaceChildren(...DRAWINGS[at](now, facts(now)));
    dots.forEach((dot, i) =>
      i === at ? dot.setAttribute("aria-current", "step") : dot.removeAttribute("aria-current"),
    );
    back.disabled = at === 0;
    next.disabled = at === say.steps.length - 1;
  }
  return {
    node: el(
      "section",
      { class: "tour" },
      el("h2", {}, say.name),
      el("div", { class: "dots" }, dots),
      el(
        "div",
        { class: "stage" },
        el("div", {}, heading, text, el("p", { class: "chips" }, back, next)),
        figure,
      ),
    ),
    draw,
  };
}

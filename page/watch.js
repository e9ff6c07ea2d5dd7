// The page of qkv.watch: what a model of any kind read, at any length. Only what is in sight is drawn.
import { arrowsMove, el, goTo, openedView } from "qkv/dom.js";
import { mapPicture, mapView } from "qkv/watch_map.js";
import { chosenLanguage, frame, languageButton, letters } from "qkv/frame.js";
import { largestOf, strip } from "qkv/strips.js";
import { number, percent, TEXTS, wholePercent } from "qkv/text.js";
import { tokenList, visibleText } from "qkv/watch_tokens.js";
import { checkRow, detailOf, readingOf, vectors } from "qkv/watch_data.js";
import { WATCH } from "qkv/watch_text.js";

/** @typedef {import("qkv/watch_data.js").Watched} Watched */
/**
 * `query` asks through the head `at`; `focus` is the key that is isolated, `open` the one whose weight is open.
 * @typedef {{run: Watched, at: [number, number], query: number, focus: number, open: number | null, language: string,
 *   tokens: (stream: string) => string[]}} WatchState
 */
/** @typedef {(change: Partial<WatchState>) => void} WatchChange */
/** @typedef {{node: HTMLElement, draw: (state: WatchState) => void, [more: string]: any}} WatchView */

/** How many keys a query reads, in effect: 3.1, 240. @param {number} entropy in nats */
const effective = (entropy) => {
  const count = Math.exp(entropy);
  return count < 10 ? count.toFixed(1) : String(Math.round(count));
};

/** @param {WatchState} first @param {WatchChange} change @returns {WatchView} */
function questionView(first, change) {
  const { run, language } = first;
  const say = WATCH[language];
  const title = el("h1", {});
  const through = el("div", { class: "through" });
  const ranking = el("ol", { class: "ranking" });
  const source = el("p", { class: "note" });
  const announced = el("p", { class: "hidden", role: "status" });
  const lists = el("div", {});
  const map = mapView(first, change);
  let streams = "";
  let drawn = "";
  /** @type {ReturnType<typeof tokenList> | null} */
  let asking = null;
  /** @type {ReturnType<typeof tokenList> | null} */
  let read = null;
  const toAnswers = () =>
    /** @type {HTMLElement | null} */ (ranking.querySelector("button"))?.focus();

  /** The lists of a layer's two texts, or of its one. @param {WatchState} state */
  function makeLists(state) {
    const layer = run.layers[state.at[0]];
    const wanted = `${layer.queries} ${layer.keys}`;
    if (wanted === streams) return;
    streams = wanted;
    const same = layer.queries === layer.keys;
    const side = (/** @type {string} */ letter, /** @type {string} */ text) =>
      el("p", { class: "side" }, el("b", { class: `badge ${letter.toLowerCase()}` }, letter), text);
    asking = tokenList({
      label: same ? say.tokens : say.asks,
      tokens: state.tokens(layer.queries),
      prefix: "q",
      pick: (query) => change({ query, open: null, focus: -1 }),
      answers: toAnswers,
    });
    read = same
      ? asking
      : tokenList({
          label: say.reads,
          tokens: state.tokens(layer.keys),
          prefix: "k",
          pick: () => {},
          answers: toAnswers,
        });
    lists.replaceChildren(
      ...(same
        ? [asking.node]
        : [side("Q", say.asks), asking.node, side("K", say.reads), read.node]),
    );
  }

  arrowsMove(ranking, () => asking?.node.focus());

  /** @param {WatchState} state @param {import("qkv/watch_data.js").Reading | null} found */
  function drawAnswer(state, found) {
    const [l, h] = state.at;
    const layer = run.layers[l];
    const asks = visibleText(state.tokens(layer.queries)[state.query] ?? "");
    const keys = state.tokens(layer.keys);
    const exact = detailOf(layer, h) === "tiles";
    const item = (/** @type {{index: number, weight: number}} */ it) => {
      const name = visibleText(keys[it.index] ?? "");
      const show = () => {
        change({ focus: it.index });
        read?.reveal(it.index);
      };
      return el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            "data-key": it.index,
            "aria-label": exact
              ? say.open(asks, name, percent(it.weight))
              : say.go(name, percent(it.weight)),
            onclick: () =>
              exact
                ? change({ open: it.index })
                : layer.queries === layer.keys && change({ query: it.index }),
            onfocus: show,
            onblur: () => change({ focus: -1 }),
            onpointerenter: () => change({ focus: it.index }),
            onpointerleave: () => change({ focus: -1 }),
          },
          el("span", { class: "name", dir: "auto" }, name, el("small", {}, say.place(it.index))),
          el("span", { class: "track" }, el("span", { class: "fill", "--w": it.weight })),
          el("span", { class: "percent" }, percent(it.weight)),
        ),
      );
    };
    ranking.setAttribute("aria-label", say.ranking(asks));
    ranking.replaceChildren(
      ...(found?.read ?? []).map(item),
      el(
        "li",
        { class: "rest" },
        el("span", { class: "name" }, say.rest),
        el("span", { class: "track" }, el("span", { class: "fill", "--w": found?.remainder ?? 0 })),
        el("span", { class: "percent" }, found ? percent(found.remainder) : "?"),
      ),
    );
    source.textContent =
      {
        tiles: say.exact,
        rows: say.carried,
        map: say.onlyBlocks,
        loading: say.loading,
      }[detailOf(layer, h)] ?? "";
    const sink = layer.sink[h];
    through.replaceChildren(
      el(
        "p",
        {},
        TEXTS[language].through,
        " ",
        el("strong", {}, `${say.head(l, h)} · ${layer.name}`),
        ` · ${say.spread(effective(layer.entropy[h]))}`,
        sink ? ` · ${say.sink(sink[0], wholePercent(sink[1]))}` : null,
      ),
    );
    const [before, after] = say.title;
    title.replaceChildren(before, el("span", { class: "asked", dir: "auto" }, asks), after);
    announced.textContent = `${title.textContent} ${say.place(state.query)}. ${(found?.read ?? [])
      .slice(0, 3)
      .map((it) => `${visibleText(keys[it.index] ?? "")} ${percent(it.weight)}`)
      .join(", ")}`;
    document.title = `${asks} · qkv`;
  }

  /** @type {import("qkv/watch_data.js").Reading | null} */
  let found = null;
  /** @type {Map<number, number>} */
  let few = new Map();
  return {
    node: el(
      "section",
      { class: "question" },
      title,
      el(
        "p",
        { class: "intro" },
        say.intro(
          run.model,
          Object.values(run.tokens)
            .map((it) => it.length)
            .join(" + "),
        ),
      ),
      through,
      lists,
      el("div", { class: "answer" }, el("div", {}, ranking, source), map.node),
      announced,
    ),
    draw(state) {
      makeLists(state);
      const shown = `${state.at} ${state.query} ${detailOf(run.layers[state.at[0]], state.at[1])}`;
      if (shown !== drawn) {
        found = readingOf(run, ...state.at, state.query);
        few = new Map(found?.read.map((it) => [it.index, it.weight]));
        drawAnswer(state, found);
      }
      drawn = shown;
      const all = found?.weights;
      const strength = all
        ? (/** @type {number} */ i) => all[i]
        : (/** @type {number} */ i) => few.get(i) ?? 0;
      const none = () => 0;
      asking?.draw({
        asked: state.query,
        focus: read === asking ? state.focus : -1,
        strength: read === asking ? strength : none,
      });
      if (read && read !== asking) read.draw({ asked: -1, focus: state.focus, strength });
      for (const button of ranking.querySelectorAll("button"))
        button.classList.toggle("focus", Number(button.getAttribute("data-key")) === state.focus);
      map.draw(state);
    },
    map,
  };
}

/** One weight from the bottom up. @param {WatchState} first @param {WatchChange} change @returns {WatchView} */
function weightView(first, change) {
  const { run, language } = first;
  const say = WATCH[language];
  const common = TEXTS[language];
  const node = el("section", { class: "weight", hidden: true });
  /** @param {WatchState} state */
  function fill(state) {
    const key = /** @type {number} */ (state.open);
    const [l, h] = state.at;
    const layer = run.layers[l];
    const of = vectors(layer, h);
    const checked = checkRow(layer, h, state.query);
    if (!of || !checked) return;
    const { dim } = layer;
    const q = of.q.subarray(state.query * dim, (state.query + 1) * dim);
    const origin = layer.calls[0].first_key;
    const k = of.k.subarray((key - origin) * dim, (key - origin + 1) * dim);
    const products = Float64Array.from(q, (value, d) => value * k[d]);
    const dot = products.reduce((sum, it) => sum + it, 0);
    const score = checked.row[key];
    const asks = visibleText(state.tokens(layer.queries)[state.query] ?? "");
    const keys = state.tokens(layer.keys);
    const reads = visibleText(keys[key] ?? "");
    const most = largestOf(q, k);
    const weight = (/** @type {number} */ s) => Math.exp(s - of.lse[state.query]);
    const { read } = readingOf(run, l, h, state.query) ?? { read: [] };
    const rivals = read.some((it) => it.index === key)
      ? read
      : [...read, { index: key, weight: weight(score) }];
    const digits =
      checked.difference === 0 ? "0" : checked.difference.toExponential(1).replace("-", "−");
    const vector = (
      /** @type {string} */ letter,
      /** @type {string} */ label,
      /** @type {ArrayLike<number>} */ values,
      largest = 0,
    ) =>
      el(
        "div",
        { class: "vector" },
        el(
          "p",
          {},
          letter ? el("b", { class: `badge ${letter.toLowerCase()}` }, letter) : null,
          label,
        ),
        strip(values, letter ? letter.toLowerCase() : "plain", label, largest),
      );
    const heading = el("h2", { tabindex: -1 }, common.weight);
    const close = () => change({ open: null });
    node.replaceChildren(
      el(
        "div",
        { class: "heading" },
        heading,
        el(
          "button",
          { type: "button", class: "chip", title: common.escape, onclick: close },
          common.close,
        ),
      ),
      el(
        "p",
        { class: "intro" },
        `${say.weightIntro(`${asks} (${state.query})`, `${reads} (${key})`)} ${say.head(l, h)}`,
      ),
      el(
        "p",
        { class: `verdict ${checked.holds ? "holds" : "fails"}` },
        el("b", { "aria-hidden": "true" }, checked.holds ? "✓" : "✗"),
        checked.holds ? say.holds(digits) : say.differs(digits),
      ),
      el(
        "div",
        { class: "steps" },
        el(
          "div",
          { class: "step one" },
          el("h3", {}, `1 · ${common.step1}`),
          el("p", { class: "note" }, say.compare),
          vector("Q", asks, q, most),
          vector("K", reads, k, most),
          vector("", common.product, products),
          el(
            "p",
            { class: "sum" },
            el("span", {}, `${common.sum} `, el("b", {}, number(dot))),
            el(
              "span",
              {},
              `${say.scaled(number(layer.scale, 4))} = `,
              el("b", {}, number(dot * layer.scale)),
            ),
            layer.softcap || layer.slopes
              ? el(
                  "span",
                  {},
                  `${[layer.softcap && say.capped, layer.slopes && say.sloped].filter(Boolean).join(", ")} → `,
                  el("b", {}, number(score)),
                )
              : null,
          ),
          score === -Infinity ? el("p", { class: "note" }, say.masked) : null,
        ),
        el(
          "div",
          { class: "step two" },
          el("h3", {}, `2 · ${common.step2}`),
          el("p", { class: "note" }, say.compete),
          el(
            "p",
            { class: "sum" },
            el("span", {}, `${say.lse} `, el("b", {}, number(of.lse[state.query]))),
          ),
          el(
            "ul",
            { class: "bars" },
            rivals.map((it) =>
              el(
                "li",
                { class: it.index === key ? "picked" : "" },
                el(
                  "span",
                  { class: "name", dir: "auto" },
                  `${visibleText(keys[it.index] ?? "")} `,
                  el("small", {}, String(it.index)),
                ),
                el("span", { class: "track" }, el("span", { class: "fill", "--w": it.weight })),
                el("span", { class: "percent" }, percent(it.weight)),
              ),
            ),
          ),
          el("p", { class: "note" }, say.noValue),
        ),
      ),
    );
    goTo(node, heading);
  }
  return openedView(
    node,
    (state) => (state.open === null ? "" : `${state.query} ${state.at} ${state.open}`),
    fill,
  );
}

/** The grid of heads; their maps are drawn when they come into sight. @param {WatchState} first @param {WatchChange} change
 * @returns {WatchView} */
function headsView(first, change) {
  const { run, language } = first;
  const say = WATCH[language];
  let theme = "";
  /** @type {Map<Element, () => void>} */
  const waiting = new Map();
  const watcher = new IntersectionObserver(
    (seen) => {
      for (const it of seen) {
        if (!it.isIntersecting) continue;
        watcher.unobserve(it.target);
        waiting.get(it.target)?.();
      }
    },
    { rootMargin: "200px" },
  );
  const cells = run.layers.flatMap((layer, l) =>
    Array.from({ length: layer.heads }, (_, h) => {
      const canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { "aria-hidden": "true" }));
      const count = effective(layer.entropy[h]);
      const sink = layer.sink[h]?.[1] ?? 0;
      const node = el(
        "button",
        {
          type: "button",
          class: "head small",
          "aria-label": say.headLabel(say.head(l, h), count),
          onclick: () => change({ at: [l, h] }),
        },
        canvas,
        el("span", { class: "role" }, count),
        el("span", { class: "sink", "--w": sink }),
      );
      waiting.set(canvas, () => {
        const image = mapPicture(layer, h);
        if (!image && document.readyState === "loading") watcher.observe(canvas);
        canvas.width = canvas.height = 64;
        const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
        if (image) pen.drawImage(image, 0, 0, 64, 64);
      });
      return { l, h, canvas, node };
    }),
  );
  const columns = Math.max(1, ...run.layers.map((layer) => layer.heads));
  return {
    node: el(
      "section",
      { class: "heads" },
      el("h2", {}, say.heads),
      el("p", { class: "intro" }, say.headsIntro),
      el(
        "div",
        { class: "scroll" },
        el(
          "div",
          { class: "grid small", "--heads": columns },
          run.layers.map((layer, l) =>
            el(
              "div",
              { class: "layer", title: layer.name },
              el("span", { class: "number" }, String(l)),
              cells.filter((cell) => cell.l === l).map((cell) => cell.node),
            ),
          ),
        ),
      ),
    ),
    draw(state) {
      for (const cell of cells)
        cell.node.setAttribute(
          "aria-pressed",
          String(cell.l === state.at[0] && cell.h === state.at[1]),
        );
      const now = String(matchMedia("(prefers-color-scheme: dark)").matches);
      if (now === theme) return;
      theme = now;
      for (const { canvas } of cells) watcher.observe(canvas);
    },
  };
}

/** @param {Watched} run */
export function startWatch(run) {
  const { bar, main, foot } = frame();
  const streams = new Map();
  /** @param {string} stream */
  function tokens(stream) {
    if (!streams.has(stream)) {
      const known = run.tokens[stream] ?? [];
      const count = Math.max(
        known.length,
        ...run.layers.map((it) =>
          Math.max(
            it.queries === stream ? it.count_queries : 0,
            it.keys === stream ? it.count_keys : 0,
          ),
        ),
      );
      streams.set(
        stream,
        Array.from({ length: count }, (_, i) => known[i] ?? `#${i}`),
      );
    }
    return streams.get(stream);
  }
  const open = run.layers[run.open[0]];
  /** @type {WatchState} */
  let state = {
    run,
    at: run.open,
    query: open.count_queries - 1,
    focus: -1,
    open: null,
    language: chosenLanguage(),
    tokens,
  };
  /** @type {WatchView[]} */
  let views = [];

  /** @type {WatchChange} */
  function change(wanted) {
    state = { ...state, ...wanted };
    const count = run.layers[state.at[0]].count_queries;
    if (state.query >= count) state = { ...state, query: count - 1, open: null };
    if (wanted.at) state = { ...state, open: null };
    for (const view of views) view.draw(state);
  }
  function build() {
    const say = WATCH[state.language];
    document.documentElement.lang = state.language === "zh" ? "zh-Hans" : "en";
    const speak = (/** @type {string} */ language) => {
      history.replaceState(null, "", `#lang=${language}`);
      state = { ...state, language };
      build();
      /** @type {HTMLElement | null} */ (bar.querySelector(".language"))?.focus();
    };
    bar.replaceChildren(letters(), languageButton(state.language, speak));
    views = [questionView(state, change), weightView(state, change), headsView(state, change)];
    main.replaceChildren(...views.map((view) => view.node));
    foot.replaceChildren(el("p", {}, say.keys), el("p", {}, say.foot(run.version, run.isa)));
    for (const view of views) view.draw(state);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const key = state.open;
    if (key !== null) {
      change({ open: null });
      const answer = main.querySelector(`.ranking [data-key="${key}"]`);
      /** @type {HTMLElement | null} */ (answer ?? main.querySelector(".tokens"))?.focus();
    } else {
      change({ focus: -1 });
      /** @type {HTMLElement | null} */ (main.querySelector(".tokens"))?.focus();
    }
  });
  const redraw = () => change({});
  document.addEventListener("DOMContentLoaded", redraw); // the payload is there as a whole
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", redraw);
  build();
  // For tests, for the bench and for the curious, in the console.
  Object.assign(globalThis, {
    qkv: { runs: () => [run], state: () => state, change, views: () => views },
  });
}

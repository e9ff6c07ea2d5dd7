// The opening view of a finder's page: who asks, the picture with what was read of it, and the words and patches in order.
import { arrowsMove, colour, context, el } from "qkv/dom.js";
import {
  effective,
  onObject,
  overWords,
  patchAt,
  patchBox,
  rangeOf,
  weightsOf,
} from "qkv/find_data.js";
import { askerName, itself, patchStream, rowName } from "qkv/find_names.js";
import { boxAround, outline, paintHeat, paintMasks, stroke, thumbnail } from "qkv/find_picture.js";
import { number, percent } from "qkv/text.js";

/** @typedef {import("qkv/find.js").State} State */
/** @typedef {import("qkv/find.js").Change} Change */
/** @typedef {import("qkv/find_data.js").Stream} Stream */

const MOST_PATCHES = 6;
const MOST_QUERIES = 3;

/** @param {State} state */
const objectOf = (state) => {
  const { kind, row } = state.asker;
  return kind === "query" ? (state.find.objects.find((it) => it.query === row - 1) ?? null) : null;
};

/** @param {State} first @param {Change} change @returns {import("qkv/find.js").View} */
export function answerView(first, change) {
  const { find, say } = first;
  const { prompt, picture } = find;
  const title = el("h1", {});
  const askers = el("div", { class: "askers", role: "group", "aria-label": say.askers });
  const canvas = /** @type {HTMLCanvasElement} */ (
    el("canvas", { class: "picture", tabindex: 0, role: "application", "data-keep": "picture" })
  );
  const box = el(
    "div",
    { class: "picture-box", "--ratio": picture.width / picture.height },
    canvas,
  );
  const under = el("p", { class: "under small", role: "status" });
  const facts = el("ul", { class: "facts" });
  const source = el("div", {});
  const rankings = el("div", { class: "rankings" });
  const announced = el("p", { class: "hidden", role: "status" });
  const views = /** @type {const} */ (["read", "masks", "plain"]).map((view) =>
    el(
      "button",
      { type: "button", class: "chip", "data-view": view, onclick: () => change({ view }) },
      { read: say.viewRead, masks: say.viewMasks, plain: say.viewPlain }[view],
    ),
  );
  const layers = find.streams[patchStream(first.asker)].map((_, layer) =>
    el(
      "button",
      { type: "button", class: "chip", onclick: () => change({ layer, open: null }) },
      String(layer),
    ),
  );
  const through = el("p", {});
  let drawnAskers = "";
  let drawnAnswer = "";
  let painted = "";
  /** @type {State} */
  let state = first;

  const pin = (/** @type {number} */ patch) => patchBox(find, patch);
  const placeOf = (/** @type {number} */ patch) =>
    say.patchPlace(Math.floor(patch / find.side), patch % find.side);
  const read = () =>
    weightsOf(find, patchStream(state.asker), state.layer, state.head, state.asker.row);

  function drawAskers() {
    const queries = find.scores.map((score, query) => ({ score, query }));
    const found = new Set(find.objects.map((it) => it.query));
    const rest = queries.filter(({ query }) => !found.has(query));
    const button = (
      /** @type {number} */ row,
      /** @type {string} */ name,
      /** @type {number} */ score,
      /** @type {Node | null} */ sign,
    ) =>
      el(
        "button",
        {
          type: "button",
          class: "asker",
          "data-keep": `asker-${row}`,
          "aria-pressed": String(state.asker.kind === "query" && state.asker.row === row),
          onclick: () => change({ asker: { kind: "query", row } }),
        },
        sign,
        el("span", {}, name, el("small", {}, percent(score))),
      );
    askers.replaceChildren(
      ...find.objects.map((object, i) =>
        button(
          object.query + 1,
          say.object(i + 1),
          object.score,
          thumbnail(find, boxAround(find, object), 44),
        ),
      ),
      button(0, say.presenceToken, find.presence, null),
      ...(state.all
        ? rest.map(({ query, score }) => button(query + 1, say.query(query + 1), score, null))
        : []),
      rest.length
        ? el(
            "button",
            {
              type: "button",
              class: "chip",
              "data-keep": "all",
              onclick: () => change({ all: !state.all }),
            },
            state.all ? say.fewer : say.others(rest.length),
          )
        : "",
      ...(state.asker.kind === "patch"
        ? [
            el(
              "span",
              { class: "asker", "aria-current": "true" },
              thumbnail(find, boxOfPatch(state.asker.row), 44),
              el("span", {}, askerName(state), el("small", {}, placeOf(state.asker.row))),
            ),
          ]
        : []),
    );
  }

  const boxOfPatch = (/** @type {number} */ patch) => {
    const { x, y, size } = pin(patch);
    return { x, y, width: size, height: size };
  };

  function paint() {
    const width = Math.max(1, box.clientWidth);
    const zoom = width / picture.width;
    const pen = context(canvas, width, picture.height * zoom);
    const object = objectOf(state);
    if (state.view === "read")
      paintHeat(pen, find, read().weights, itself(state), width, picture.height * zoom);
    else if (state.view === "masks") paintMasks(pen, find, width, object);
    else pen.drawImage(find.image, 0, 0, width, picture.height * zoom);
    if (object && state.view !== "plain")
      stroke(pen, zoom, () => pen.stroke(outline(find, object)), colour("--q-fill"), 2);
    const mark = (/** @type {number} */ patch, /** @type {string} */ ink) => {
      const { x, y, size } = pin(patch);
      stroke(pen, zoom, () => pen.strokeRect(x, y, size, size), ink, 2);
    };
    if (state.asker.kind === "patch") mark(state.asker.row, colour("--q-fill"));
    if (state.focus !== null) mark(state.focus, colour("--k-fill"));
    under.textContent =
      state.focus === null
        ? "\u00a0"
        : `${askerName(state)} → ${rowName(state, "patches", state.focus)}, ${placeOf(state.focus)}  ${percent(read().weights[state.focus])}`;
  }

  /** @param {Stream} stream @param {{key: number, name: string, weight: number, special?: string, sign?: Node | null}[]} items
   * @param {string} what @param {number} rest how many are left out @param {number} left their share
   * @param {number} [full] the share of a full bar */
  function ranking(stream, items, what, rest, left, full = 1) {
    const who = askerName(state);
    const list = el(
      "ol",
      { class: "ranking", "aria-label": say.ranking(who, what) },
      items.map((it) =>
        el(
          "li",
          { class: it.special ? "mark-row" : "" },
          el(
            "button",
            {
              type: "button",
              "data-key": `${stream} ${it.key}`,
              "aria-label": state.text.open(who, it.name, percent(it.weight)),
              onclick: () => change({ open: { stream, key: it.key }, focus: null }),
              onpointerenter: () => it.sign && change({ focus: it.key }),
              onpointerleave: () => it.sign && change({ focus: null }),
              onfocus: () => it.sign && change({ focus: it.key }),
              onblur: () => it.sign && change({ focus: null }),
            },
            el(
              "span",
              { class: "name", dir: "auto" },
              it.sign ?? null,
              el("span", {}, it.name, it.special && el("small", {}, it.special)),
            ),
            el("span", { class: "track" }, el("span", { class: "fill", "--w": it.weight / full })),
            el("span", { class: "percent" }, percent(it.weight)),
          ),
        ),
      ),
      rest > 0
        ? el(
            "li",
            { class: "rest" },
            el("span", { class: "name" }, say.rest(rest)),
            el("span", {}),
            el("span", { class: "percent" }, percent(left)),
          )
        : null,
    );
    arrowsMove(list, () => canvas.focus());
    return el("div", {}, el("h2", { class: "what" }, what), list);
  }

  /** @param {Float64Array} weights @param {number} most */
  const strongest = (weights, most) =>
    Array.from(weights, (weight, key) => ({ weight, key }))
      .sort((a, b) => b.weight - a.weight || a.key - b.key)
      .slice(0, most);

  /** The list of patches or queries. @param {Stream} stream @param {Float64Array} weights @param {number} most @param {string} what */
  function tokens(stream, weights, most, what) {
    const top = strongest(weights, most);
    const left = 1 - top.reduce((sum, it) => sum + it.weight, 0);
    const items = top.map((it) => ({
      ...it,
      name: rowName(state, stream, it.key),
      special: stream !== "queries" && !find.inside[it.key] ? say.beside : "",
      sign: stream === "queries" ? null : thumbnail(find, boxOfPatch(it.key), 30),
    }));
    // Of 256 patches the strongest has a few percent: its bar is full, and others are drawn beside it.
    const full = stream === "queries" ? 1 : top[0].weight;
    return ranking(stream, items, what, weights.length - top.length, Math.max(0, left), full);
  }

  function drawAnswer() {
    const { layer, asker } = state;
    const stream = patchStream(asker);
    const { weights, holds } = read();
    const own = itself(state);
    const range = rangeOf(find, weights, own);
    const object = objectOf(state);
    const on = object && onObject(find, object, weights);
    facts.replaceChildren(
      ...[
        own >= 0 && say.itself(percent(weights[own])),
        say.scale(percent(range.least), percent(range.most)),
        say.inEffect(number(effective(weights), 0), weights.length),
        on && say.onObject(percent(on.share), percent(on.chance)),
        range.beside >= 0.0005 && say.besides(percent(range.beside)),
        asker.kind === "query" &&
          asker.row > 0 &&
          `${say.from} ${rowName(state, "patches", find.chosen[asker.row - 1])}`,
      ]
        .filter((it) => it)
        .map((it) => el("li", {}, String(it))),
    );
    const carried = find.streams[stream][layer].engine.every((it) => it !== null);
    source.replaceChildren(
      carried
        ? ""
        : el(
            "p",
            { class: `source ${holds ? "holds" : "fails"}` },
            `${state.text.recomputed} · ${holds ? state.text.confirmed : state.text.unconfirmed}`,
          ),
    );
    const name = state.head < 0 ? say.layerMean(layer) : state.text.head(layer, state.head);
    through.replaceChildren(state.text.through, " ", el("strong", {}, name));
    const parts = [];
    if (asker.kind === "query") {
      const words = overWords(
        find,
        weightsOf(find, "words", layer, state.wordHead, asker.row).weights,
      );
      const items = prompt.words.map((word, key) => ({
        key,
        name: word.text,
        weight: words[key],
        special: key >= prompt.sentence ? state.text.special(word.kind) : "",
      }));
      const special = (/** @type {(typeof items)[number]} */ it) => (it.special ? 1 : 0);
      items.sort((a, b) => special(a) - special(b) || b.weight - a.weight);
      parts.push(
        ranking(
          "words",
          items.filter((it) => prompt.words[it.key].pieces.length),
          say.words,
          0,
          0,
        ),
      );
    }
    parts.push(tokens(stream, weights, MOST_PATCHES, say.patches));
    if (asker.kind === "query")
      parts.push(
        tokens(
          "queries",
          weightsOf(find, "queries", layer, -1, asker.row).weights,
          MOST_QUERIES,
          say.queries,
        ),
      );
    rankings.replaceChildren(
      ...parts,
      state.head < 0 || state.wordHead < 0 ? el("p", { class: "note" }, say.meanOpens) : "",
    );
    const [before, after] = say.title;
    title.replaceChildren(before, el("span", { class: "asked" }, askerName(state)), after);
    canvas.setAttribute("aria-label", say.picture(askerName(state)));
    announced.textContent = `${title.textContent} ${[...facts.children].map((it) => it.textContent).join(", ")}`;
  }

  /** @param {PointerEvent | MouseEvent} event */
  function patchUnder(event) {
    const bounds = canvas.getBoundingClientRect();
    const zoom = picture.width / bounds.width;
    return patchAt(find, (event.clientX - bounds.left) * zoom, (event.clientY - bounds.top) * zoom);
  }
  const ask = (/** @type {number} */ patch) =>
    change({ asker: { kind: "patch", row: patch }, focus: null });
  canvas.addEventListener("pointermove", (event) => {
    const patch = patchUnder(event);
    if (patch !== state.focus) change({ focus: patch });
  });
  canvas.addEventListener("pointerleave", () => change({ focus: null }));
  canvas.addEventListener("blur", () => change({ focus: null }));
  canvas.addEventListener("click", (event) => ask(patchUnder(event)));
  canvas.addEventListener("keydown", (event) => {
    const steps = /** @type {Record<string, [number, number]>} */ ({
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
    });
    const start =
      state.asker.kind === "patch"
        ? state.asker.row
        : find.chosen[Math.max(0, state.asker.row - 1)];
    const now = state.focus ?? start;
    if (event.key === "Enter") ask(now);
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const { side } = find;
    const x = (now % side) + step[0];
    const y = Math.floor(now / side) + step[1];
    const next = y * side + x;
    if (x < 0 || y < 0 || x >= side || y >= side || !find.inside[next]) return;
    change({ focus: next });
  });

  const presence = say.presence(percent(find.presence));
  const result =
    find.objects.length > 0
      ? say.present(find.objects.length)
      : find.present
        ? say.unsure
        : say.absent;
  return {
    node: el(
      "section",
      { class: "question find" },
      el(
        "p",
        { class: "prompt" },
        el(
          "q",
          { lang: prompt.language === "zh" ? "zh-Hans" : prompt.language, dir: "auto" },
          prompt.text,
        ),
        result,
        el("small", {}, presence),
      ),
      title,
      el("p", { class: "intro" }, say.intro),
      askers,
      el(
        "div",
        { class: "seen" },
        el(
          "div",
          { class: "seen-picture" },
          box,
          under,
          el("div", { class: "chips", role: "group", "aria-label": say.views }, views),
          facts,
          source,
        ),
        el(
          "div",
          {},
          el(
            "div",
            { class: "through" },
            el(
              "div",
              { class: "chips", role: "group", "aria-label": say.layer },
              el("span", {}, say.layer),
              layers,
            ),
            through,
          ),
          rankings,
        ),
      ),
      announced,
    ),
    draw(now) {
      state = now;
      const who = `${now.asker.kind} ${now.asker.row} ${now.all}`;
      if (who !== drawnAskers) {
        const kept = document.activeElement?.getAttribute("data-keep");
        drawAskers();
        if (kept)
          /** @type {HTMLElement | null} */ (
            askers.querySelector(`[data-keep="${kept}"]`)
          )?.focus();
      }
      drawnAskers = who;
      const what = `${now.asker.kind} ${now.asker.row} ${now.layer} ${now.head} ${now.wordHead}`;
      if (what !== drawnAnswer) drawAnswer();
      drawnAnswer = what;
      views.forEach((it) => it.setAttribute("aria-pressed", String(it.dataset.view === now.view)));
      layers.forEach((it, layer) => it.setAttribute("aria-pressed", String(layer === now.layer)));
      const shown = `${what} ${now.view} ${now.focus} ${box.clientWidth} ${colour("--ink")}`;
      if (shown !== painted) paint();
      painted = shown;
    },
  };
}

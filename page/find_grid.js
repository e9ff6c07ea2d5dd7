// The grids of a finder's page: of every layer and head a small map of the picture, and a small chart of the prompt's words.
import { colour, context, el } from "qkv/dom.js";
import { overWords, rangeOf, weightsOf } from "qkv/find_data.js";
import { askerName, itself, patchStream } from "qkv/find_names.js";
import { paintHeat } from "qkv/find_picture.js";
import { percent } from "qkv/text.js";

/** @typedef {import("qkv/find.js").State} State */
/** @typedef {import("qkv/find.js").Change} Change */

const SIDE = 112; // of a small map, in CSS pixels
const CHART = 44; // height of a chart

/** A button for each head of each layer, and before them one for the mean; `paint` draws a cell and says what it shows.
 * @param {State} first @param {import("qkv/find_data.js").Stream} stream
 * @param {(state: State, canvas: HTMLCanvasElement, layer: number, head: number) => string} paint
 * @param {(layer: number, head: number) => void} choose @param {(state: State) => number} chosen the head that is chosen */
function grid(first, stream, paint, choose, chosen) {
  const { find, say, text } = first;
  const records = find.streams[stream];
  const cells = records.flatMap((record, layer) =>
    Array.from({ length: record.heads + 1 }, (_, i) => {
      const head = i - 1;
      const canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { "aria-hidden": "true" }));
      const most = el("span", { class: "most" });
      const button = el(
        "button",
        { type: "button", class: "head", onclick: () => choose(layer, head) },
        canvas,
        most,
      );
      const label = head < 0 ? say.layerMean(layer) : text.head(layer, head);
      return { layer, head, canvas, most, button, label };
    }),
  );
  const heads = Math.max(...records.map((record) => record.heads));
  const names = el(
    "div",
    { class: "layer names", "aria-hidden": "true" },
    el("span", {}),
    Array.from({ length: heads + 1 }, (_, i) => el("span", {}, i === 0 ? say.mean : String(i - 1))),
  );
  const rows = records.map((_, layer) =>
    el(
      "div",
      { class: "layer", role: "group", "aria-label": `${say.layer} ${layer}` },
      el("span", { class: "number" }, String(layer)),
      cells.filter((cell) => cell.layer === layer).map((cell) => cell.button),
    ),
  );
  let drawn = "";
  return {
    node: el(
      "div",
      { class: "scroll" },
      el("div", { class: "grid maps", "--heads": heads + 1 }, names, rows),
    ),
    /** @param {State} state */
    draw(state) {
      for (const { layer, head, button } of cells) {
        const pressed = layer === state.layer && head === chosen(state);
        button.setAttribute("aria-pressed", String(pressed));
      }
      const shown = `${state.asker.row} ${colour("--ink")}`;
      if (shown === drawn) return;
      drawn = shown;
      for (const { layer, head, canvas, most, button, label } of cells) {
        most.textContent = paint(state, canvas, layer, head);
        button.setAttribute("aria-label", `${label}. ${most.textContent}`);
      }
    },
  };
}

/** @param {State} first @param {Change} change @returns {import("qkv/find.js").View} */
export function gridView(first, change) {
  const { find, say } = first;
  const stream = patchStream(first.asker);
  const about = el("p", { class: "note" });
  const table = grid(
    first,
    stream,
    (state, canvas, layer, head) => {
      const { weights } = weightsOf(find, stream, layer, head, state.asker.row);
      const height = Math.max(1, Math.round((SIDE * find.picture.height) / find.picture.width));
      const own = itself(state);
      paintHeat(context(canvas, SIDE, height), find, weights, own, SIDE, height);
      return say.mostPatch(percent(rangeOf(find, weights, own).most));
    },
    (layer, head) => change({ layer, head, open: null, view: "read" }),
    (state) => state.head,
  );
  return {
    node: el(
      "section",
      { class: "heads" },
      el("h2", {}, say.grid),
      el("p", { class: "intro" }, first.asker.kind === "patch" ? say.gridPatch : say.gridQuery),
      about,
      table.node,
    ),
    draw(state) {
      about.textContent = state.text.headsAt(askerName(state));
      table.draw(state);
    },
  };
}

/** @param {State} first @param {Change} change @returns {import("qkv/find.js").View} */
export function wordGridView(first, change) {
  const { find, say } = first;
  const { words, sentence } = find.prompt;
  const table = grid(
    first,
    "words",
    (state, canvas, layer, head) => {
      const { weights } = weightsOf(find, "words", layer, head, state.asker.row);
      const shares = overWords(find, weights);
      const pen = context(canvas, SIDE, CHART);
      pen.clearRect(0, 0, SIDE, CHART);
      const wide = (SIDE - 8) / shares.length;
      shares.forEach((share, i) => {
        pen.fillStyle = colour(i < sentence ? "--k-fill" : "--mark-fill");
        const height = Math.max(1, share * (CHART - 8));
        pen.fillRect(4 + i * wide + 1, CHART - 4 - height, Math.max(1, wide - 2), height);
      });
      const best = shares.indexOf(Math.max(...shares));
      return `${words[best].text} ${percent(shares[best])}`;
    },
    (layer, wordHead) => change({ layer, wordHead, open: null }),
    (state) => state.wordHead,
  );
  return {
    node: el(
      "section",
      { class: "heads words-read" },
      el("h2", {}, say.gridWords),
      el("p", { class: "intro" }, say.gridWordsIntro),
      table.node,
    ),
    draw: table.draw,
  };
}

// One head's matrix, drawn on a canvas: words that ask down the side, words that are read along the top.
import { wordWeights } from "qkv/data.js";
import { colour, context, el } from "qkv/dom.js";
import { headLine, sourceLine } from "qkv/question.js";
import { percent } from "qkv/text.js";

/** @typedef {import("qkv/main.js").State} State */

const FONT = '13px "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif';
const GAP = 12; // between the words and the model's own marks
const MANY = 64; // words; with more, cells may be too small for labels
const SMALLEST_LABELLED = 13;
const FLOOR = 1e-4; // where the logarithmic scale begins

/** @param {number} weight @param {boolean} log */
const shade = (weight, log) =>
  log ? Math.max(0, 1 - Math.log(Math.max(weight, FLOOR)) / Math.log(FLOOR)) : weight;

/** @param {State} first @param {import("qkv/main.js").Change} change @returns {import("qkv/main.js").View} */
export function matrixView(first, change) {
  const { run, say } = first;
  const canvas = /** @type {HTMLCanvasElement} */ (
    el("canvas", { class: "matrix", tabindex: 0, role: "application" })
  );
  const base = document.createElement("canvas");
  const under = el("p", { class: "under", role: "status" });
  const name = el("p", { class: "note" });
  const source = el("div", {});
  const scroll = el("div", { class: "scroll" }, canvas);
  const switches = [false, true].map((log) =>
    el(
      "button",
      { type: "button", class: "chip", onclick: () => change({ log }) },
      log ? say.log : say.linear,
    ),
  );
  const rows = run.query.words.length;
  const columns = run.key.words.length;
  let cell = 24;
  let left = 80;
  let top = 80;
  /** @type {{row: number, column: number} | null} */
  let at = null;
  let paintedWidth = -1;
  let paintedInk = "";
  /** @type {State} */
  let state = first;

  const measure = /** @type {CanvasRenderingContext2D} */ (
    document.createElement("canvas").getContext("2d")
  );
  measure.font = FONT;
  /** @param {string} text @param {number} most */
  function fit(text, most) {
    if (measure.measureText(text).width <= most) return text;
    const letters = [...text];
    while (letters.length > 1 && measure.measureText(`${letters.join("")}…`).width > most)
      letters.pop();
    return `${letters.join("")}…`;
  }
  const rowTop = (/** @type {number} */ row) =>
    top + row * cell + (row >= run.query.sentence ? GAP : 0);
  const columnLeft = (/** @type {number} */ column) =>
    left + column * cell + (column >= run.key.sentence ? GAP : 0);

  const labelled = () => cell >= SMALLEST_LABELLED;

  /** @param {number} row @param {string} ink @param {CanvasRenderingContext2D} pen */
  function rowLabel(pen, row, ink) {
    pen.fillStyle = colour(ink);
    pen.font = ink === "--soft" ? FONT : `600 ${FONT}`;
    pen.textAlign = "right";
    pen.fillText(fit(run.query.words[row].text, 110), left - 8, rowTop(row) + cell / 2);
  }
  /** @param {number} column @param {string} ink @param {CanvasRenderingContext2D} pen */
  function columnLabel(pen, column, ink) {
    pen.save();
    pen.translate(columnLeft(column) + cell / 2, top - 8);
    pen.rotate(-Math.PI / 4);
    pen.fillStyle = colour(ink);
    pen.font = ink === "--soft" ? FONT : `600 ${FONT}`;
    pen.textAlign = "left";
    pen.fillText(fit(run.key.words[column].text, 110), 0, 0);
    pen.restore();
  }

  /** Everything but what is under the pointer, on a canvas of its own. */
  function paintBase() {
    const widest = Math.max(...run.query.words.map((word) => measure.measureText(word.text).width));
    const tallest = Math.max(...run.key.words.map((word) => measure.measureText(word.text).width));
    left = Math.min(110, widest) + 14;
    top = Math.min(96, tallest) * 0.8 + 22;
    const room = scroll.clientWidth - left - GAP - 24;
    const least = Math.max(rows, columns) > MANY ? 3 : 15;
    cell = Math.max(least, Math.min(38, Math.floor(room / columns)));
    const width = left + columns * cell + GAP + 24;
    const height = top + rows * cell + GAP + 2;
    context(canvas, width, height);
    const pen = context(base, width, height);
    const weights = wordWeights(run, ...state.at);
    const [empty, word, mark] = ["--cell", "--k-fill", "--mark-fill"].map(colour);
    const side = cell > 6 ? cell - 1 : cell;
    for (let row = 0; row < rows; ++row) {
      for (let column = 0; column < columns; ++column) {
        const [x, y] = [columnLeft(column), rowTop(row)];
        pen.globalAlpha = 1;
        pen.fillStyle = empty;
        pen.fillRect(x, y, side, side);
        pen.globalAlpha = Math.min(1, shade(weights[row * columns + column], state.log));
        pen.fillStyle = column >= run.key.sentence ? mark : word;
        pen.fillRect(x, y, side, side);
      }
    }
    pen.globalAlpha = 1;
    pen.textBaseline = "middle";
    for (let row = 0; row < rows; ++row)
      if (labelled() || row === state.word)
        rowLabel(pen, row, row === state.word ? "--q" : "--soft");
    for (let column = 0; labelled() && column < columns; ++column)
      columnLabel(pen, column, "--soft");
    pen.lineWidth = 2;
    pen.strokeStyle = colour("--q");
    const wide = columnLeft(columns - 1) + cell - columnLeft(0);
    pen.strokeRect(columnLeft(0) - 1, rowTop(state.word) - 1, wide + 1, cell + 1);
  }

  /** The base, and the cell under the pointer. */
  function paint() {
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.save();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(base, 0, 0);
    pen.restore();
    under.textContent = "\u00a0";
    if (!at) return;
    const { row, column } = at;
    pen.textBaseline = "middle";
    if (row !== state.word) rowLabel(pen, row, "--ink");
    columnLabel(pen, column, "--k");
    pen.lineWidth = 2;
    pen.strokeStyle = colour("--ink");
    pen.strokeRect(columnLeft(column) - 0.5, rowTop(row) - 0.5, cell, cell);
    const weight = wordWeights(run, ...state.at)[row * columns + column];
    under.textContent = `${run.query.words[row].text} → ${run.key.words[column].text}  ${percent(weight)}`;
  }

  /** @param {PointerEvent | MouseEvent} event */
  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    for (let row = 0; row < rows; ++row) {
      if (y < rowTop(row) || y >= rowTop(row) + cell) continue;
      for (let column = 0; column < columns; ++column)
        if (x >= columnLeft(column) && x < columnLeft(column) + cell) return { row, column };
    }
    return null;
  }
  /** @param {{row: number, column: number} | null} next */
  function move(next) {
    if (next?.row === at?.row && next?.column === at?.column) return;
    at = next;
    paint();
  }
  function openCell() {
    if (
      at &&
      run.query.words[at.row].pieces.length > 0 &&
      run.key.words[at.column].pieces.length > 0
    )
      change({ word: at.row, open: at.column, at: state.at });
  }
  canvas.addEventListener("pointermove", (event) => move(cellAt(event)));
  canvas.addEventListener("pointerleave", () => move(null));
  canvas.addEventListener("click", (event) => {
    move(cellAt(event));
    openCell();
  });
  canvas.addEventListener(
    "focus",
    () => canvas.matches(":focus-visible") && move(at ?? { row: state.word, column: 0 }),
  );
  canvas.addEventListener("keydown", (event) => {
    const steps = /** @type {Record<string, [number, number]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    });
    const now = at ?? { row: state.word, column: 0 };
    if (event.key === "Enter") openCell();
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    move({
      row: Math.max(0, Math.min(rows - 1, now.row + step[0])),
      column: Math.max(0, Math.min(columns - 1, now.column + step[1])),
    });
  });

  return {
    node: el(
      "section",
      { class: "one-head" },
      el("h2", {}, say.matrix),
      el("p", { class: "intro" }, say.matrixIntro),
      name,
      source,
      el("div", { class: "chips", role: "group", "aria-label": say.scale }, switches),
      scroll,
      under,
    ),
    draw(now) {
      const same =
        state.at === now.at && state.word === now.word && state.log === now.log && name.textContent;
      const resized = scroll.clientWidth !== paintedWidth || paintedInk !== colour("--ink");
      state = now;
      if (same && !resized) return; // hovering a word elsewhere changes nothing here
      paintedWidth = scroll.clientWidth;
      paintedInk = colour("--ink");
      name.replaceChildren(headLine(now));
      source.replaceChildren(sourceLine(now) ?? "");
      canvas.setAttribute("aria-label", say.matrixLabel(say.head(...now.at)));
      switches.forEach((button, i) =>
        button.setAttribute("aria-pressed", String(now.log === (i === 1))),
      );
      paintBase();
      paint();
    },
  };
}

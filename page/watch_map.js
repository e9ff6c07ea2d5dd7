// The whole matrix of one head, however long the text: blocks first, and where one looks closer the exact weights, tile by tile,
// computed from q, k and the log-sum-exp when they come into sight.
import { colour, context, el } from "qkv/dom.js";
import { percent } from "qkv/text.js";
import { visibleText } from "qkv/watch_tokens.js";
import { blockMap, detailOf, tile, vectors } from "qkv/watch_data.js";
import { WATCH } from "qkv/watch_text.js";

/** @typedef {import("qkv/watch.js").WatchState} State */

const TILE = 64; // weights on a side
const KEPT = 600; // tiles that are remembered: 10 MB
const EXACT = 1.5; // pixels of a weight from which on tiles are drawn
const NAMED = 14; // from which on tokens are written beside
const LARGEST = 34;
const AXIS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
const BUDGET = 6; // milliseconds of a frame that may go into new tiles
const FONT = '12px "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif';

/** "r, g, b" of a colour of style.css. @param {string} name */
function rgb(name) {
  const text = colour(name).replace("#", "");
  return [0, 2, 4].map((at) => Number.parseInt(text.slice(at, at + 2), 16));
}

/** An image of shares [rows, columns]; square roots let small ones be seen. @param {ArrayLike<number>} shares
 * @param {number} columns @param {number} rows */
function picture(shares, columns, rows) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = pen.createImageData(columns, rows);
  const [r, g, b] = rgb("--k-fill");
  for (let i = 0; i < columns * rows; ++i) {
    image.data.set([r, g, b, Math.min(255, Math.round(255 * Math.sqrt(shares[i])))], 4 * i);
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

/** A head's blocks as a small image, for the grid of heads. @param {import("qkv/watch_data.js").Layer} layer @param {number} head */
export function mapPicture(layer, head) {
  const map = blockMap(layer, head);
  return map && picture(map.share, map.columns, map.rows);
}

/** @param {State} first @param {import("qkv/watch.js").WatchChange} change @returns {import("qkv/watch.js").WatchView} */
export function mapView(first, change) {
  const say = WATCH[first.language];
  const canvas = /** @type {HTMLCanvasElement} */ (
    el("canvas", { class: "matrix", tabindex: 0, role: "application" })
  );
  const under = el("p", { class: "under small", role: "status" });
  const note = el("p", { class: "note" });
  /** @param {string} sign @param {string} label @param {() => void} onclick */
  const button = (sign, label, onclick) =>
    el(
      "button",
      { type: "button", class: "chip", "aria-label": label, title: label, onclick },
      sign,
    );
  const node = el(
    "div",
    { class: "map" },
    el("h2", {}, say.map),
    note,
    el(
      "div",
      { class: "chips", role: "group", "aria-label": say.zoom },
      button("+", say.closer, () => zoom(2)),
      button("−", say.farther, () => zoom(0.5)),
      button(say.whole, say.wholeLabel, () => fit()),
    ),
    canvas,
    under,
  );

  /** @type {State} */
  let state = first;
  let width = 0;
  let height = 0;
  let scale = 1; // pixels of a weight
  let x = 0; // the first key in sight
  let y = 0; // the first query in sight
  /** @type {{query: number, key: number} | null} */
  let at = null;
  let waiting = 0;
  let shown = "";
  let ink = "";
  /** @type {HTMLCanvasElement | null} */
  let blocks = null;
  /** @type {Map<string, HTMLCanvasElement>} */
  let tiles = new Map();
  /** @type {{pen: CanvasRenderingContext2D | null}} */
  const surface = { pen: null };

  let left = 0; // room for tokens, or for numbers
  let top = 0;
  const layer = () => state.run.layers[state.at[0]];
  const least = () =>
    Math.min((width - left) / layer().count_keys, (height - top) / layer().count_queries, LARGEST);
  const limit = (
    /** @type {number} */ value,
    /** @type {number} */ count,
    /** @type {number} */ room,
  ) => Math.max(0, Math.min(value, count - room / scale));
  function margins() {
    [left, top] = scale >= NAMED ? [92, 76] : [44, 24];
  }
  function hold() {
    margins();
    scale = Math.max(least(), Math.min(LARGEST, scale));
    x = limit(x, layer().count_keys, width - left);
    y = limit(y, layer().count_queries, height - top);
    canvas.style.touchAction = scale > least() * 1.01 ? "none" : "pan-y";
    soon();
  }
  function fit() {
    scale = 0;
    hold();
  }
  /** @param {number} factor @param {number} [px] a place that stays where it is @param {number} [py] */
  function zoom(factor, px = left + (width - left) / 2, py = top + (height - top) / 2) {
    const key = x + (px - left) / scale;
    const query = y + (py - top) / scale;
    scale = Math.max(least(), Math.min(LARGEST, scale * factor));
    x = key - (px - left) / scale;
    y = query - (py - top) / scale;
    hold();
  }
  function soon() {
    if (!waiting) waiting = requestAnimationFrame(paint);
  }

  /** Draws the tiles in sight that are there, makes missing ones while the frame has time. @param {CanvasRenderingContext2D} pen */
  function paintTiles(pen) {
    const of = vectors(layer(), state.at[1]);
    if (!of || scale < EXACT) return;
    const begin = performance.now();
    const { count_keys: keys, count_queries: queries } = layer();
    const lastKey = Math.min(keys, x + (width - left) / scale);
    const lastQuery = Math.min(queries, y + (height - top) / scale);
    for (let q = Math.floor(y / TILE) * TILE; q < lastQuery; q += TILE) {
      for (let k = Math.floor(x / TILE) * TILE; k < lastKey; k += TILE) {
        const name = `${q} ${k}`;
        let image = tiles.get(name);
        const [rows, columns] = [Math.min(TILE, queries - q), Math.min(TILE, keys - k)];
        if (!image) {
          if (performance.now() - begin > BUDGET) {
            soon();
            continue;
          }
          image = picture(
            tile(layer(), state.at[1], of, q, q + rows, k, k + columns),
            columns,
            rows,
          );
          tiles.set(name, image);
          if (tiles.size > KEPT) tiles.delete(/** @type {string} */ (tiles.keys().next().value));
        }
        const [px, py] = [left + (k - x) * scale, top + (q - y) * scale];
        pen.fillStyle = colours.cell;
        pen.fillRect(px, py, columns * scale, rows * scale);
        pen.drawImage(image, px, py, columns * scale, rows * scale);
      }
    }
  }
  const colours = { cell: "", soft: "", ink: "", q: "", k: "", line: "" };

  /** Tokens beside the matrix, or where there are too many their numbers. @param {CanvasRenderingContext2D} pen */
  function paintNames(pen) {
    const { count_keys: keys, count_queries: queries } = layer();
    const named = scale >= NAMED;
    const step = named ? 1 : (AXIS.find((it) => it * scale >= 56) ?? 100000);
    const [rows, columns] = [state.tokens(layer().queries), state.tokens(layer().keys)];
    pen.font = FONT;
    pen.textBaseline = "middle";
    const cut = (/** @type {string} */ text) => (text.length > 12 ? `${text.slice(0, 11)}…` : text);
    pen.textAlign = "right";
    for (
      let q = Math.ceil(y / step) * step;
      q < Math.min(queries, y + (height - top) / scale);
      q += step
    ) {
      pen.fillStyle = q === state.query ? colours.q : colours.soft;
      pen.fillText(
        named ? cut(visibleText(rows[q] ?? `#${q}`)) : String(q),
        left - 8,
        top + (q - y + (named ? 0.5 : 0)) * scale,
      );
    }
    pen.textAlign = "left";
    for (
      let k = Math.ceil(x / step) * step;
      k < Math.min(keys, x + (width - left) / scale);
      k += step
    ) {
      pen.save();
      pen.translate(left + (k - x + (named ? 0.5 : 0)) * scale, top - 8);
      if (named) pen.rotate(-Math.PI / 4);
      pen.fillStyle = k === at?.key ? colours.k : colours.soft;
      pen.fillText(named ? cut(visibleText(columns[k] ?? `#${k}`)) : String(k), 0, 0);
      pen.restore();
    }
  }

  function paint() {
    waiting = 0;
    const pen = surface.pen;
    if (!pen) return;
    pen.clearRect(0, 0, width, height);
    const { count_keys: keys, count_queries: queries, map } = layer();
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width - left, height - top);
    pen.clip();
    pen.fillStyle = colours.cell;
    pen.fillRect(left - x * scale, top - y * scale, keys * scale, queries * scale);
    pen.imageSmoothingEnabled = false;
    if (blocks && map) {
      const [across, down] = [map.keys / map.block, map.queries / map.block]; // the last blocks may be cut
      const [px, py] = [left + (map.first_key - x) * scale, top + (map.first_query - y) * scale];
      pen.drawImage(blocks, 0, 0, across, down, px, py, map.keys * scale, map.queries * scale);
    }
    paintTiles(pen);
    pen.lineWidth = 1.5;
    pen.strokeStyle = colours.q;
    const row = Math.max(scale, 2);
    pen.strokeRect(
      left + 0.75,
      top + (state.query - y) * scale - 0.75,
      Math.min(width - left - 1.5, (keys - x) * scale),
      row + 1.5,
    );
    if (at) {
      pen.strokeStyle = colours.ink;
      pen.strokeRect(
        left + (at.key - x) * scale - 0.75,
        top + (at.query - y) * scale - 0.75,
        row + 1.5,
        row + 1.5,
      );
    }
    pen.restore();
    paintNames(pen);
  }

  /** What is known of the place under the pointer, in words. */
  function tell() {
    if (!at) return "\u00a0";
    const name = (/** @type {string} */ stream, /** @type {number} */ i) =>
      `${visibleText(state.tokens(stream)[i] ?? "")} (${i})`;
    const of = vectors(layer(), state.at[1]);
    const both = `${name(layer().queries, at.query)} → ${name(layer().keys, at.key)}`;
    if (of) {
      const [weight] = tile(layer(), state.at[1], of, at.query, at.query + 1, at.key, at.key + 1);
      return `${both}  ${percent(weight)}`;
    }
    const map = blockMap(layer(), state.at[1]);
    const place = layer().map;
    if (!map || !place) return both;
    const row = Math.floor((at.query - place.first_query) / place.block);
    const column = Math.floor((at.key - place.first_key) / place.block);
    if (row < 0 || column < 0 || row >= map.rows || column >= map.columns) return both;
    const i = row * map.columns + column;
    return say.block(both, percent(map.share[i]), percent(map.most[i]));
  }
  /** @param {{query: number, key: number} | null} next */
  function point(next) {
    if (next?.query === at?.query && next?.key === at?.key) return;
    at = next;
    under.textContent = tell();
    soon();
  }
  /** @param {MouseEvent} event */
  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const key = Math.floor(x + (event.clientX - box.left - left) / scale);
    const query = Math.floor(y + (event.clientY - box.top - top) / scale);
    const inside =
      key >= 0 && query >= 0 && key < layer().count_keys && query < layer().count_queries;
    return inside && event.clientX - box.left >= left && event.clientY - box.top >= top
      ? { query, key }
      : null;
  }

  /** @type {{x: number, y: number, moved: boolean} | null} */
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false };
    if (scale > least() * 1.01) canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons) {
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      drag = { x: event.clientX, y: event.clientY, moved: true };
      x -= dx / scale;
      y -= dy / scale;
      hold();
    }
    point(cellAt(event));
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", (event) => {
    const moved = drag?.moved;
    drag = null;
    const cell = cellAt(event);
    if (moved || !cell) return;
    if (scale >= 6 || !vectors(layer(), state.at[1])) return pickCell(cell);
    const box = canvas.getBoundingClientRect();
    zoom(
      scale < EXACT ? (1.01 * EXACT) / scale : 8 / scale,
      event.clientX - box.left,
      event.clientY - box.top,
    );
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls; a pinch arrives with ctrl
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY / 200), event.clientX - box.left, event.clientY - box.top);
    },
    { passive: false },
  );
  /** @param {{query: number, key: number}} cell */
  function pickCell(cell) {
    change({ query: cell.query, open: vectors(layer(), state.at[1]) ? cell.key : null });
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    if (event.key === "+" || event.key === "=") return zoom(2);
    if (event.key === "-") return zoom(0.5);
    if (event.key === "0") return fit();
    if (event.key === "Enter" && at) return pickCell(at);
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[
      event.key
    ];
    if (!step) return;
    event.preventDefault();
    const by = scale >= 4 ? 1 : (layer().map?.block ?? Math.ceil(4 / scale));
    const now = at ?? { query: state.query, key: Math.floor(x) };
    const query = Math.max(0, Math.min(layer().count_queries - 1, now.query + by * step[0]));
    const key = Math.max(0, Math.min(layer().count_keys - 1, now.key + by * step[1]));
    const [wide, high] = [(width - left) / scale, (height - top) / scale];
    if (key < x || key + 1 > x + wide) x = key - wide / 2;
    if (query < y || query + 1 > y + high) y = query - high / 2;
    hold();
    point({ query, key });
  });

  return {
    node,
    draw(now) {
      state = now;
      const detail = detailOf(layer(), now.at[1]);
      const head = `${now.at} ${detail} ${blockMap(layer(), now.at[1]) !== null}`;
      const room = node.clientWidth;
      const theme = colour("--k-fill") + colour("--cell");
      if (room !== width || theme !== ink) {
        const wasFit = width === 0 || scale <= least() * 1.01;
        width = room;
        const shape = layer().count_queries / layer().count_keys;
        height = Math.round(width * Math.max(0.35, Math.min(1, shape)));
        surface.pen = context(canvas, width, height);
        for (const name of /** @type {(keyof typeof colours)[]} */ (Object.keys(colours)))
          colours[name] = colour(`--${name}`);
        if (wasFit) scale = 0;
      }
      if (head !== shown || theme !== ink) {
        tiles = new Map();
        blocks = mapPicture(layer(), now.at[1]);
        canvas.setAttribute("aria-label", say.mapLabel(say.head(...now.at)));
        const exact = detail === "tiles";
        note.textContent = exact
          ? say.mapExact
          : `${say.mapBlocks(layer().map?.block ?? 0)} ${layer().why || say.tooLarge}`;
        under.textContent = "\u00a0";
        at = null;
      }
      [shown, ink] = [head, theme];
      hold();
    },
    // For the bench: looks at a place, and whether everything in sight is exact by now.
    look(/** @type {number} */ key, /** @type {number} */ query, /** @type {number} */ size) {
      [x, y, scale] = [key, query, size];
      hold();
    },
    missing: () => waiting !== 0,
  };
}

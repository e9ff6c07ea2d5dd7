// A finder's run as the page holds it: the JSON that src/lens/page_find_data.cc wrote, with its numbers decoded, and what one asker
// read. Askers are the presence token (row 0), the object queries (from row 1) and the patches of the picture.
import { floats, layersOf } from "qkv/data.js";
import { agreement, softmaxRow } from "qkv/math.js";

/** @typedef {import("qkv/data.js").Layer} Layer */
/** @typedef {import("qkv/data.js").Side} Side */
/** @typedef {"encoder" | "queries" | "words" | "patches"} Stream what is read: by a patch the encoder's patches, by a query the rest */
/** @typedef {{kind: "query" | "patch", row: number}} Asker */
/** @typedef {{query: number, score: number, mask: Uint8Array, cover: Float32Array}} Found `mask` [height, width] of the picture,
 * `cover` how much of each patch it is */
/**
 * @typedef {{kind: "find", version: string, isa: string, prompt: Side, presence: number, present: boolean, scores: number[],
 *   chosen: number[],
 *   picture: {png: string, width: number, height: number, seen_width: number, seen_height: number, image: number, left: number,
 *     top: number, scale: number},
 *   objects: Found[], side: number, inside: boolean[], streams: Record<Stream, Layer[]>, image: HTMLImageElement}} Find
 */

/** One for each prompt. @param {any} data @returns {Promise<Find[]>} */
export async function readFinds(data) {
  const { picture, version, isa } = data;
  const encoder = layersOf(data.encoder);
  const image = new Image();
  image.src = `data:image/png;base64,${picture.png}`;
  await image.decode();
  return data.prompts.map((/** @type {any} */ asked) => {
    const { queries, words, patches, objects, ...rest } = asked;
    const streams = {
      encoder,
      queries: layersOf(queries),
      words: layersOf(words),
      patches: layersOf(patches),
    };
    const side = Math.round(Math.sqrt(streams.patches[0].keys));
    /** @type {Find} */
    const find = {
      ...rest,
      kind: "find",
      version,
      isa,
      picture,
      image,
      streams,
      side,
      inside: [],
      objects: [],
    };
    find.inside = Array.from({ length: side * side }, (_, patch) => {
      const { x, y, size } = patchBox(find, patch);
      return x + size > 0 && y + size > 0 && x < picture.width && y < picture.height;
    });
    find.objects = objects.map((/** @type {any} */ object) => ({
      ...object,
      mask: readMask(object.mask, picture.width * picture.height),
      cover: floats(object.cover),
    }));
    return find;
  });
}

/** @param {number[]} runs @param {number} size */
function readMask(runs, size) {
  const mask = new Uint8Array(size);
  let at = 0;
  runs.forEach((count, i) => {
    if (i % 2 === 1) mask.fill(1, at, at + count);
    at += count;
  });
  return mask;
}

/** Where a patch lies, in pixels of the page's picture; some lie beside it. @param {Find} find @param {number} patch */
export function patchBox(find, patch) {
  const { image, left, top, scale, width, seen_width } = find.picture;
  const shrunk = width / seen_width / scale; // pixels of the page's picture for one of the square's
  const size = (image / find.side) * shrunk;
  return {
    x: (patch % find.side) * size - left * shrunk,
    y: Math.floor(patch / find.side) * size - top * shrunk,
    size,
  };
}

/** The patch at a pixel of the page's picture. @param {Find} find @param {number} x @param {number} y */
export function patchAt(find, x, y) {
  const origin = patchBox(find, 0);
  const most = find.side - 1;
  const place = (/** @type {number} */ at, /** @type {number} */ start) =>
    Math.max(0, Math.min(most, Math.floor((at - start) / origin.size)));
  return place(y, origin.y) * find.side + place(x, origin.x);
}

/** @type {WeakMap<Layer, Map<string, {weights: Float64Array, holds: boolean}>>} */
const known = new WeakMap();

/** One query's weights over every key: the engine's where the page carries them, else from q, k and the engine's lse, and whether
 * that agrees. @param {Layer} layer @param {number} head @param {number} query */
function rowOfHead(layer, head, query) {
  const rows = known.get(layer) ?? new Map();
  known.set(layer, rows);
  const name = `${head} ${query}`;
  const found = rows.get(name);
  if (found) return found;
  const engine = layer.engine[head];
  let made;
  if (engine) {
    const first = query * layer.keys;
    made = { weights: Float64Array.from(engine.subarray(first, first + layer.keys)), holds: true };
  } else {
    const row = softmaxRow(layer, head, query);
    made = { weights: row.weights, holds: agreement(layer, head, query, row, null).holds };
  }
  rows.set(name, made);
  return made;
}

/** The same of one head, or of the mean over the heads (−1). @param {Find} find @param {Stream} stream @param {number} layer
 * @param {number} head @param {number} row */
export function weightsOf(find, stream, layer, head, row) {
  const record = find.streams[stream][layer];
  if (head >= 0) return rowOfHead(record, head, row);
  const weights = new Float64Array(record.keys);
  let holds = true;
  for (let h = 0; h < record.heads; ++h) {
    const one = rowOfHead(record, h, row);
    one.weights.forEach(
      (/** @type {number} */ it, /** @type {number} */ key) => (weights[key] += it / record.heads),
    );
    holds &&= one.holds;
  }
  return { weights, holds };
}

/** Pieces of the prompt to its words. @param {Find} find @param {Float64Array} weights */
export function overWords(find, weights) {
  const shares = new Float64Array(find.prompt.words.length);
  find.prompt.pieces.forEach((piece, key) => {
    for (const [word, share] of piece.words) shares[word] += share * weights[key];
  });
  return shares;
}

/** e to the entropy: among how many it chose, in effect. @param {ArrayLike<number>} weights */
export function effective(weights) {
  let entropy = 0;
  for (const p of Array.from(weights)) if (p > 0) entropy -= p * Math.log(p);
  return Math.exp(entropy);
}

/** The layer whose mean over the heads chooses most sharply among the patches. @param {Find} find @param {Stream} stream
 * @param {number} row */
export function sharpestLayer(find, stream, row) {
  const counts = find.streams[stream].map((_, layer) =>
    effective(weightsOf(find, stream, layer, -1, row).weights),
  );
  return counts.indexOf(Math.min(...counts));
}

/** How much of what was read lies on the object, and how much would by chance. @param {Find} find @param {Found} object
 * @param {Float64Array} weights */
export function onObject(find, object, weights) {
  let share = 0;
  let chance = 0;
  let inside = 0;
  object.cover.forEach((cover, patch) => {
    share += weights[patch] * cover;
    chance += find.inside[patch] ? cover : 0;
    inside += find.inside[patch] ? 1 : 0;
  });
  return { share, chance: chance / Math.max(1, inside) };
}

/** Of the patches that show the picture, but that which asks: a patch may read itself more than all others.
 * @param {Find} find @param {ArrayLike<number>} weights @param {number} [itself] */
export function rangeOf(find, weights, itself = -1) {
  let least = Infinity;
  let most = 0;
  let beside = 0;
  Array.from(weights).forEach((weight, patch) => {
    if (!find.inside[patch]) {
      beside += weight;
      return;
    }
    if (patch === itself) return;
    least = Math.min(least, weight);
    most = Math.max(most, weight);
  });
  return { least, most, beside };
}

/** A side of which every token is a word of its own. @param {string[]} names @returns {Side} */
const sideOf = (names) => ({
  text: "",
  language: "",
  sentence: names.length,
  words: names.map((text, i) => ({
    text,
    kind: "word",
    pronoun: false,
    space: true,
    pieces: /** @type {[number, number][]} */ ([[i, 1]]),
  })),
  pieces: names.map((text, i) => ({
    text,
    words: /** @type {[number, number][]} */ ([[i, 1]]),
  })),
});

/** A stream as the views of sentences know a run. @param {Find} find @param {Stream} stream
 * @param {(stream: Stream, row: number) => string} name of a row @returns {import("qkv/data.js").Run} */
export function streamRun(find, stream, name) {
  const [first] = find.streams[stream];
  const names = (/** @type {Stream} */ of, /** @type {number} */ count) =>
    sideOf(Array.from({ length: count }, (_, row) => name(of, row)));
  const query = names(stream === "encoder" ? "encoder" : "queries", first.queries);
  return {
    kind: "find",
    version: find.version,
    isa: find.isa,
    query,
    key: stream === "words" ? find.prompt : names(stream, first.keys),
    self: stream === "encoder" || stream === "queries",
    asked: [],
    open: null,
    fitting: [],
    layers: find.streams[stream],
    untrained: null,
  };
}

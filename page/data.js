// A run as the page holds it: the JSON that src/lens/page_data.cc wrote, with its numbers decoded, and weights between words.
import { agreement, softmaxRow } from "qkv/math.js";

/** @typedef {{text: string, kind: string, pronoun: boolean, space: boolean, pieces: [number, number][]}} Word */
/** @typedef {{text: string, words: [number, number][]}} Piece */
/** @typedef {{text: string, language: string, words: Word[], sentence: number, pieces: Piece[]}} Side */
/** @typedef {{role: string, score: number, chance: number, guided: boolean}} Role */
/**
 * @typedef {{where: string, heads: number, queries: number, keys: number, dim_k: number, dim_v: number, scale: number,
 *   causal: boolean, q: Float32Array, k: Float32Array, v: Float32Array, lse: Float32Array,
 *   engine: (Float32Array | null)[], weights: (Float32Array | null)[], confirmed: boolean[],
 *   out: (Float32Array | null)[], roles: Role[][]}} Layer
 * `engine`: what the engine gave, by head, null where the page does not carry it; `weights`: the same, and what was computed here;
 * `confirmed`: of those, whether the log-sum-exp of every row is the engine's. `out` [queries, dim_v] is the engine's too.
 */
/**
 * @typedef {{kind: "look" | "translate" | "find", version: string, isa: string, query: Side, key: Side, self: boolean,
 *   asked: number[], open: [number, number] | null, fitting: [number, number][][], layers: Layer[],
 *   untrained: (Float32Array | null)[][] | null}} Run
 * Of kind "find" is what a finder's page makes of one of its attentions (find_data.js). `untrained`: the weights by layer and head before training, null where the page does not carry them.
 */

/** Little-endian single precision numbers, RFC 4648. @param {string} text */
export function floats(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** @param {string | null} text */
const maybe = (text) => (text === null ? null : floats(text));

/** @param {any[]} list @returns {Layer[]} */
export const layersOf = (list) =>
  list.map((layer) => {
    const engine = layer.weights.map(maybe);
    const [q, k, v, lse] = [layer.q, layer.k, layer.v, layer.lse].map(floats);
    const out = layer.out.map(maybe);
    return { ...layer, q, k, v, lse, engine, weights: [...engine], confirmed: [], out };
  });

/** @param {any} json @returns {Run} */
export function readRun(json) {
  const layers = layersOf(json.layers);
  const untrained = json.untrained?.map((/** @type {any[]} */ heads) => heads.map(maybe)) ?? null;
  return { ...json, layers, untrained, key: json.key ?? json.query, self: json.key === null };
}

/** The part of `values` [heads, tokens, dim] that belongs to one token.
 * @param {Float32Array} values @param {number} head @param {number} tokens @param {number} dim @param {number} token */
export function rowOf(values, head, tokens, dim, token) {
  const at = (head * tokens + token) * dim;
  return values.subarray(at, at + dim);
}

/** The weights [queries, keys] of one head: the engine's where the page carries them, else from q, k and the engine's lse.
 * @param {Layer} layer @param {number} head @returns {Float32Array} */
export function pieceWeights(layer, head) {
  const carried = layer.weights[head];
  if (carried) return carried;
  const all = new Float32Array(layer.queries * layer.keys);
  let confirmed = true;
  for (let query = 0; query < layer.queries; ++query) {
    const row = softmaxRow(layer, head, query);
    for (let key = 0; key < layer.keys; ++key) all[query * layer.keys + key] = row.weights[key];
    confirmed &&= agreement(layer, head, query, row, null).holds;
  }
  layer.confirmed[head] = confirmed;
  layer.weights[head] = all;
  return all;
}

/** @type {WeakMap<Layer, Map<number, Float32Array>>} */
const known = new WeakMap();

/** The weights [query words, key words] of one head: summed over the pieces of the word that was read, averaged over the pieces
 * of the word that asked, as src/lens/piece_map.h defines them.
 * @param {Run} run @param {number} layer @param {number} head @returns {Float32Array} */
export function wordWeights(run, layer, head) {
  const record = run.layers[layer];
  const heads = known.get(record) ?? new Map();
  known.set(record, heads);
  const found = heads.get(head) ?? toWords(run, record, pieceWeights(record, head));
  heads.set(head, found);
  return found;
}

/** The same of any weights [queries, keys] between pieces. @param {Run} run @param {Layer} record @param {Float32Array} weights */
export function toWords(run, record, weights) {
  const columns = run.key.words.length;
  const result = new Float32Array(run.query.words.length * columns);
  run.query.words.forEach((word, row) => {
    for (const [query, asks] of word.pieces) {
      run.key.pieces.forEach((piece, key) => {
        const weight = weights[query * record.keys + key];
        for (const [column, share] of piece.words)
          result[row * columns + column] += asks * share * weight;
      });
    }
  });
  return result;
}

const LEAST = 0.0005; // shows as 0.1%

/** What one word read through one head: the sentence's words, strongest first; the model's own marks; and what is left.
 * @param {Run} run @param {number} layer @param {number} head @param {number} word @param {number} [most] */
export function reading(run, layer, head, word, most = 8) {
  const columns = run.key.words.length;
  const row = wordWeights(run, layer, head).subarray(word * columns, (word + 1) * columns);
  const all = [...row].map((weight, index) => ({ index, weight }));
  const read = all
    .filter((it) => it.index < run.key.sentence && it.weight >= LEAST)
    .sort((a, b) => b.weight - a.weight || a.index - b.index)
    .slice(0, most);
  const specials = all.filter((it) => it.index >= run.key.sentence);
  const remainder = Math.max(0, 1 - [...read, ...specials].reduce((sum, it) => sum + it.weight, 0));
  return { read, specials, remainder, row };
}

/** The two pieces that are followed when a weight opens: of the pairs of the two words' pieces the one with the largest weight.
 * @param {Run} run @param {number} layer @param {number} head @param {number} queryWord @param {number} keyWord */
export function strongestPair(run, layer, head, queryWord, keyWord) {
  const record = run.layers[layer];
  const weights = pieceWeights(record, head);
  let best = { query: -1, key: -1, weight: -1 };
  for (const [query] of run.query.words[queryWord].pieces) {
    for (const [key] of run.key.words[keyWord].pieces) {
      const weight = weights[query * record.keys + key];
      if (weight > best.weight) best = { query, key, weight };
    }
  }
  return best;
}

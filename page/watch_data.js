// What qkv.watch saw of a model, as python/qkv/page.py writes it: an index in JSON, and for each head what is decoded only when
// somebody looks at it. docs/page.md lists the fields.
import { dot } from "qkv/math.js";

/**
 * Query i of a call stands at key i + keys − queries ("bottom-right"), or i; `hidden` keys (1) are padding.
 * @typedef {{first_query: number, queries: number, first_key: number, keys: number, causal: string | boolean,
 *   window: [number, number], hidden: string | null}} Call
 */
/**
 * `detail` says of each head what its payload is: "tiles" (q, k and log-sum-exp: every weight), "rows" (the keys that each query read
 * most) or "map" (blocks only); `why` says why there are no tiles.
 * @typedef {{index: number, name: string, queries: string, keys: string, count_queries: number, count_keys: number, heads: number,
 *   group: number, dim: number, dtype: string, scale: number, softcap: number, slopes: number[] | null, sinks: number[] | null,
 *   calls: Call[], why: string, detail: string[], entropy: number[], sink: ([number, number] | null)[],
 *   map: {block: number, first_query: number, first_key: number, queries: number, keys: number} | null}} Layer
 */
/**
 * @typedef {{kind: "watch", version: string, isa: string, model: string, tokens: Record<string, string[]>, top: number,
 *   open: [number, number], layers: Layer[]}} Watched
 */
/** @typedef {{q: Float32Array, k: Float32Array, lse: Float32Array}} Vectors */
/** What one query read. `weights` of every key where the head has tiles, else null. @typedef {{read: {index: number,
 *   weight: number}[], remainder: number, weights: Float32Array | null}} Reading */

/** The element of a payload, once it is there as a whole: the page starts before its end has come. @param {string} id */
function payload(id) {
  const node = document.getElementById(id);
  return node && (document.readyState !== "loading" || node.nextElementSibling) ? node : null;
}

/** The bytes of a payload, RFC 4648. @param {string} id */
const bytes = (id) =>
  Uint8Array.from(atob(payload(id)?.textContent ?? ""), (c) => c.charCodeAt(0)).buffer;

const ids = {
  q: (/** @type {Layer} */ it, /** @type {number} */ head) => `q-${it.index}-${head}`,
  k: (/** @type {Layer} */ it, /** @type {number} */ head) =>
    `k-${it.index}-${Math.floor(head / it.group)}`,
  lse: (/** @type {Layer} */ it, /** @type {number} */ head) => `lse-${it.index}-${head}`,
  rows: (/** @type {Layer} */ it, /** @type {number} */ head) => `rows-${it.index}-${head}`,
  map: (/** @type {Layer} */ it, /** @type {number} */ head) => `map-${it.index}-${head}`,
};

/** What there is of a head by now: "tiles", "rows", "map", or "loading". @param {Layer} layer @param {number} head */
export function detailOf(layer, head) {
  const wanted = layer.detail[head];
  const needed = wanted === "tiles" ? [ids.q, ids.k, ids.lse] : wanted === "rows" ? [ids.rows] : [];
  return needed.every((id) => payload(id(layer, head))) ? wanted : "loading";
}

/** IEEE 754 binary16. @param {number} bits */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @param {ArrayBuffer} buffer @param {string} dtype "float32", "float16" or "bfloat16" */
function numbers(buffer, dtype) {
  if (dtype === "float32") return new Float32Array(buffer);
  const words = new Uint16Array(buffer);
  if (dtype === "float16") return Float32Array.from(words, half);
  return new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer);
}

/** @type {WeakMap<Layer, Map<string, any>>} */
const decoded = new WeakMap();

/** @template T @param {Layer} layer @param {string} name @param {() => T} make @returns {T} */
function once(layer, name, make) {
  const known = decoded.get(layer) ?? new Map();
  decoded.set(layer, known);
  if (!known.has(name)) known.set(name, make());
  return known.get(name);
}

/** Query, key and log-sum-exp of a head, in the precision that the model ran in. @param {Layer} layer @param {number} head
 * @returns {Vectors | null} */
export function vectors(layer, head) {
  if (detailOf(layer, head) !== "tiles") return null;
  const read = (/** @type {string} */ id, dtype = layer.dtype) =>
    once(layer, id, () => numbers(bytes(id), dtype));
  return {
    q: read(ids.q(layer, head)),
    k: read(ids.k(layer, head)),
    lse: read(ids.lse(layer, head), "float32"),
  };
}

/** The block map [rows, columns] of a head: the share of its attention that a query of the block gave to the block of keys, on
 * average, and the largest weight. @param {Layer} layer @param {number} head */
export function blockMap(layer, head) {
  const id = ids.map(layer, head);
  if (!layer.map || !payload(id)) return null;
  const { block, queries, keys } = layer.map;
  return once(layer, id, () => {
    const rows = Math.ceil(queries / block);
    const columns = Math.ceil(keys / block);
    const both = numbers(bytes(id), "float16");
    return {
      rows,
      columns,
      share: both.subarray(0, rows * columns),
      most: both.subarray(rows * columns),
    };
  });
}

/** The call that a query of the layer was in. @param {Layer} layer @param {number} query */
export function callOf(layer, query) {
  return (
    layer.calls.find((it) => query < it.first_query + it.queries) ??
    layer.calls[layer.calls.length - 1]
  );
}

/** The keys [first, end) that a query may read, of all keys of the layer, and where it stands among them.
 * @param {Call} call @param {number} query */
export function visible(call, query) {
  const row = query - call.first_query;
  const place = call.causal === "top-left" ? row : row + call.keys - call.queries;
  const [left, right] = call.window;
  let first = left < 0 ? 0 : place - left;
  let end = right < 0 ? call.keys : place + right + 1;
  if (call.causal) end = Math.min(end, place + 1);
  first = Math.max(0, first);
  end = Math.max(first, Math.min(end, call.keys));
  return {
    first: first + call.first_key,
    end: end + call.first_key,
    place: place + call.first_key,
  };
}

/** @param {Layer} layer @param {Call} call */
const hiddenKeys = (layer, call) =>
  call.hidden === null
    ? null
    : once(layer, `hidden-${layer.calls.indexOf(call)}`, () =>
        Uint8Array.from(atob(call.hidden ?? ""), (c) => c.charCodeAt(0)),
      );

/** The scores of one query for keys [begin, end): q·k × scale, softcap, ALiBi, mask, as docs/numerics.md orders them.
 * @param {Layer} layer @param {number} head @param {Vectors} of @param {number} query @param {number} begin @param {number} end */
export function scores(layer, head, of, query, begin, end) {
  const { dim, scale, softcap } = layer;
  const call = callOf(layer, query);
  const { first, end: last, place } = visible(call, query);
  const hidden = hiddenKeys(layer, call);
  const slope = layer.slopes?.[head] ?? 0;
  const origin = layer.calls[0].first_key; // the token that the first carried key is
  const result = new Float64Array(end - begin).fill(-Infinity);
  const { k, q } = of;
  const from = query * dim;
  for (let key = Math.max(begin, first); key < Math.min(end, last); ++key) {
    if (hidden?.[key - call.first_key]) continue;
    let sum = 0;
    const at = (key - origin) * dim;
    for (let d = 0; d < dim; ++d) sum += q[from + d] * k[at + d];
    let score = sum * scale;
    if (softcap) score = softcap * Math.tanh(score / softcap);
    result[key - begin] = score - slope * Math.abs(place - key);
  }
  return result;
}

/** Exact weights [q1 − q0, k1 − k0]: e^(score − lse). @param {Layer} layer @param {number} head @param {Vectors} of
 * @param {number} q0 @param {number} q1 @param {number} k0 @param {number} k1 */
export function tile(layer, head, of, q0, q1, k0, k1) {
  const result = new Float32Array((q1 - q0) * (k1 - k0));
  for (let query = q0; query < q1; ++query) {
    const lse = of.lse[query];
    const row = scores(layer, head, of, query, k0, k1);
    for (let i = 0; i < row.length; ++i)
      if (row[i] !== -Infinity) result[(query - q0) * row.length + i] = Math.exp(row[i] - lse);
  }
  return result;
}

/** The largest of a list by weight, strongest first, ties to the lower index. @param {Float32Array} weights @param {number} most */
function strongest(weights, most) {
  /** @type {{index: number, weight: number}[]} */
  const found = [];
  for (let index = 0; index < weights.length; ++index) {
    const weight = weights[index];
    if (weight <= 0 || (found.length === most && weight <= found[most - 1].weight)) continue;
    let at = found.length;
    while (at > 0 && found[at - 1].weight < weight) --at;
    found.splice(at, 0, { index, weight });
    if (found.length > most) found.pop();
  }
  return found;
}

/** @param {Watched} run @param {number} l @param {number} head @param {number} query @returns {Reading | null} null if the page
 * carries only blocks of this head */
export function readingOf(run, l, head, query) {
  const layer = run.layers[l];
  const of = vectors(layer, head);
  if (of) {
    const weights = tile(layer, head, of, query, query + 1, 0, layer.count_keys);
    const read = strongest(weights, run.top);
    const remainder = Math.max(0, 1 - read.reduce((sum, it) => sum + it.weight, 0));
    return { read, remainder, weights };
  }
  if (detailOf(layer, head) !== "rows") return null;
  const rows = once(layer, ids.rows(layer, head), () => {
    const buffer = bytes(ids.rows(layer, head));
    const count = layer.count_queries * run.top;
    const wide = layer.count_keys > 65535;
    const keys = wide ? new Uint32Array(buffer, 0, count) : new Uint16Array(buffer, 0, count);
    const rest = new Uint16Array(buffer, count * (wide ? 4 : 2));
    return { keys, weights: rest.subarray(0, count), remainder: rest.subarray(count) };
  });
  const read = [];
  for (let i = query * run.top; i < (query + 1) * run.top; ++i)
    if (rows.weights[i] > 0) read.push({ index: rows.keys[i], weight: rows.weights[i] / 65535 });
  return { read, remainder: rows.remainder[query] / 65535, weights: null };
}

const UNIT = 2 ** -24;

/** The log-sum-exp of one query, computed here, beside the engine's. The bound is that of `agreement` in math.js.
 * @param {Layer} layer @param {number} head @param {number} query */
export function checkRow(layer, head, query) {
  const of = vectors(layer, head);
  if (!of) return null;
  const row = scores(layer, head, of, query, 0, layer.count_keys);
  const sink = layer.sinks?.[head] ?? -Infinity;
  let largest = sink;
  for (const score of row) largest = Math.max(largest, score);
  let sum = Math.exp(sink - largest);
  for (const score of row) sum += Math.exp(score - largest);
  const ours = largest + Math.log(sum);
  const q = of.q.subarray(query * layer.dim, (query + 1) * layer.dim);
  let longest = 0;
  for (let at = 0; at < of.k.length; at += layer.dim) {
    const k = of.k.subarray(at, at + layer.dim);
    longest = Math.max(longest, dot(k, k));
  }
  // Σ|q·k| ≤ |q|·|k| (Cauchy–Schwarz)
  const worst = (layer.dim + 1) * UNIT * Math.sqrt(dot(q, q) * longest) * layer.scale;
  const bound = worst + (layer.count_keys + 8) * UNIT + 4 * UNIT * (Math.abs(ours) + layer.softcap);
  const difference = Math.abs(ours - of.lse[query]);
  return { holds: difference <= bound, difference, ours, row };
}

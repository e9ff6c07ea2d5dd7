// The main step in double precision: query_dot_keys, softmax, weighted_sum_values, from the q, k and v that the engine used.

/** @typedef {import("qkv/data.js").Layer} Layer */

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function dot(a, b) {
  let sum = 0;
  for (let d = 0; d < a.length; ++d) sum += a[d] * b[d];
  return sum;
}

/** dots[k] = Σ_d query[d]·key[k][d]; magnitudes[k] = Σ_d |query[d]·key[k][d]|, for the bound of `agreement`.
 * @param {Layer} layer @param {number} head @param {number} query */
export function query_dot_keys(layer, head, query) {
  const dim = layer.dim_k;
  const q = (head * layer.queries + query) * dim;
  const visible = layer.causal ? query + 1 + layer.keys - layer.queries : layer.keys;
  const dots = new Float64Array(layer.keys).fill(-Infinity);
  const magnitudes = new Float64Array(layer.keys);
  for (let key = 0; key < visible; ++key) {
    const k = (head * layer.keys + key) * dim;
    let sum = 0;
    let magnitude = 0;
    for (let d = 0; d < dim; ++d) {
      const product = layer.q[q + d] * layer.k[k + d];
      sum += product;
      magnitude += Math.abs(product);
    }
    dots[key] = sum;
    magnitudes[key] = magnitude;
  }
  return { dots, magnitudes };
}

/** weights[k] = e^(score[k] − largest) / Σ e^(score − largest). @param {Float64Array} scores */
export function softmax(scores) {
  let largest = -Infinity;
  for (const score of scores) largest = Math.max(largest, score);
  const exponentials = scores.map((score) => Math.exp(score - largest));
  let sum = 0;
  for (const e of exponentials) sum += e;
  return { largest, exponentials, sum, weights: exponentials.map((e) => e / sum) };
}

/** output[d] = Σ_k weight[k]·value[k][d]. @param {Layer} layer @param {number} head @param {Float64Array} weights */
export function weighted_sum_values(layer, head, weights) {
  const output = new Float64Array(layer.dim_v);
  for (let key = 0; key < layer.keys; ++key) {
    if (weights[key] === 0) continue;
    const v = (head * layer.keys + key) * layer.dim_v;
    for (let d = 0; d < layer.dim_v; ++d) output[d] += weights[key] * layer.v[v + d];
  }
  return output;
}

/** One query's scores and weights over every key. `scale` replaces the model's own, for looking at what it does.
 * @param {Layer} layer @param {number} head @param {number} query @param {number} [scale] */
export function softmaxRow(layer, head, query, scale = layer.scale) {
  const { dots, magnitudes } = query_dot_keys(layer, head, query);
  const scores = dots.map((it) => it * scale);
  return { dots, magnitudes, scores, ...softmax(scores) };
}

/** The Frobenius norm of ∂softmax/∂scores = diag(p) − p·pᵀ: how much a step of learning could change.
 * @param {Float64Array} p */
export function gradientNorm(p) {
  // Σ_i (p_i − p_i²)² + Σ_{i≠j} p_i²·p_j²
  let squares = 0;
  let sum = 0;
  for (const it of p) {
    squares += it * it;
    sum += (it - it * it) ** 2 - it ** 4;
  }
  return Math.sqrt(Math.max(0, sum + squares * squares));
}

const UNIT = 2 ** -24; // of rounding to single precision

/** How far the engine's single precision weights may lie from ours, and how far they do. A score of d products and sums is off by
 * at most (d + 1) units of its Σ|q·k|·scale, and so is the log-sum-exp, by the worst of them; the weight is e^(score − lse), its
 * exponent rounded once more and e^x good to 4 units. Carried weights without the engine's are compared by their lse alone.
 * @param {Layer} layer @param {number} head @param {number} query @param {ReturnType<typeof softmaxRow>} row
 * @param {Float32Array | null} engine [queries, keys] @returns bounds: of each weight */
export function agreement(layer, head, query, row, engine) {
  const lse = layer.lse[head * layer.queries + query];
  const errors = row.magnitudes.map((it) => (layer.dim_k + 1) * UNIT * it * layer.scale);
  let worst = 0;
  for (const error of errors) worst = Math.max(worst, error);
  const ours = row.largest + Math.log(row.sum);
  const lseBound = worst + (layer.keys + 4) * UNIT + 2 * UNIT * Math.abs(ours);
  let holds = Math.abs(ours - lse) <= lseBound;
  let difference = 0;
  const bounds = row.weights.map((weight, key) => {
    const exponent = Math.abs(row.scores[key]) + Math.abs(lse);
    return weight === 0 ? 0 : weight * (errors[key] + lseBound + UNIT * exponent + 4 * UNIT);
  });
  for (let key = 0; engine && key < layer.keys; ++key) {
    const gap = Math.abs(row.weights[key] - engine[query * layer.keys + key]);
    difference = Math.max(difference, gap);
    holds &&= gap <= 1.01 * bounds[key] + 2 ** -126; // second-order terms; numbers below the normal range
  }
  return { holds, difference, lse, ours, bounds };
}

/** The engine's output of one query beside ours. A sum of n products is off by (n + 1) units of Σ|weight·value|, and by the error of
 * every weight times its value.
 * @param {Layer} layer @param {number} head @param {number} query @param {Float64Array} weights
 * @param {Float64Array} bounds of the weights @param {Float64Array} ours [dim_v] @param {Float32Array} engine [queries, dim_v] */
export function outputAgreement(layer, head, query, weights, bounds, ours, engine) {
  let holds = true;
  let difference = 0;
  for (let d = 0; d < layer.dim_v; ++d) {
    let bound = 2 ** -126;
    for (let key = 0; key < layer.keys; ++key) {
      const value = Math.abs(layer.v[(head * layer.keys + key) * layer.dim_v + d]);
      bound += 1.01 * value * (bounds[key] + (layer.keys + 1) * UNIT * weights[key]);
    }
    const gap = Math.abs(ours[d] - engine[query * layer.dim_v + d]);
    difference = Math.max(difference, gap);
    holds &&= gap <= bound;
  }
  return { holds, difference };
}

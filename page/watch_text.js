// What the page of qkv.watch says, in English and in Chinese.

const EN = {
  title: ["What did ", " read?"],
  intro: (/** @type {string} */ model, /** @type {string} */ tokens) =>
    `${model} read ${tokens} tokens. Pick one to ask: the darker another one, the more of its attention it got.`,
  place: (/** @type {number} */ i) => `token ${i}`,
  tokens: "The tokens. Arrow keys pick the one that asks, Enter goes to its answers.",
  asks: "The tokens that ask",
  reads: "The tokens that are read",
  ranking: (/** @type {string} */ w) => `What ${w} read, strongest first`,
  rest: "all others",
  open: (/** @type {string} */ a, /** @type {string} */ b, /** @type {string} */ p) =>
    `${b}, ${p}. Open how ${a} came to read it`,
  go: (/** @type {string} */ b, /** @type {string} */ p) => `${b}, ${p}. Let it ask`,
  head: (/** @type {number} */ l, /** @type {number} */ h) => `layer ${l}, head ${h}`,
  spread: (/** @type {string} */ n) => `in effect, a token reads ${n} others here`,
  sink: (/** @type {number} */ k, /** @type {string} */ p) =>
    `${p} of its attention rests on token ${k}`,
  exact: "computed here from q and k, as the log-sum-exp of the engine confirms",
  carried: "from the engine's trace, to 5 decimals",
  onlyBlocks:
    "This file carries only the block map of this head: save it with more room (megabytes=…), or ask for the head (tiles=[…]).",
  loading: "The rest of this file is still being read…",
  map: "Who read what",
  zoom: "Size",
  closer: "closer",
  farther: "farther away",
  whole: "all",
  wholeLabel: "the whole matrix",
  mapExact:
    "Queries down, keys across. From afar, blocks and their share of the attention; click to come closer, down to every exact weight. Drag to move.",
  mapBlocks: (/** @type {number} */ n) => `Queries down, keys across, in blocks of ${n} tokens.`,
  tooLarge: "Single weights of this head are not in this file.",
  block: (/** @type {string} */ both, /** @type {string} */ p, /** @type {string} */ most) =>
    `${both}  its block: ${p} on average, at most ${most}`,
  mapLabel: (/** @type {string} */ h) =>
    `Map of ${h}. Arrow keys move, plus and minus come closer and go back, 0 shows all, Enter opens the weight.`,
  heads: "Every head reads something else",
  headsIntro:
    "Rows are layers, columns are heads: the map of each, and how many others a token reads in it, in effect (e to the entropy). A grey line beneath: a single token takes that much of everybody's attention.",
  headLabel: (/** @type {string} */ h, /** @type {string} */ n) =>
    `${h}: reads ${n} tokens, in effect`,
  weightIntro: (/** @type {string} */ a, /** @type {string} */ b) => `How ${a} came to read ${b}.`,
  compare: "Multiply question and key, number by number, and add up.",
  scaled: (/** @type {string} */ s) => `× ${s}`,
  capped: "softcap",
  sloped: "ALiBi",
  masked: "masked: this token may not be read",
  compete: "e to the score, against all rivals: e^(score − log-sum-exp) is the weight.",
  lse: "log-sum-exp of all scores",
  holds: (/** @type {string} */ d) =>
    `Recomputed here: the log-sum-exp agrees with the engine, difference ${d}`,
  differs: (/** @type {string} */ d) =>
    `Recomputed here: the log-sum-exp DIFFERS from the engine by ${d}`,
  noValue: "qkv.watch keeps q and k, not the values: what the token took away is not in this file.",
  keys: "← → between tokens, ↑ ↓ between lines, Enter goes to the answers, Esc goes back",
  foot: (/** @type {string} */ v, /** @type {string} */ isa) =>
    `Made by qkv ${v} (${isa}). Every number comes from the engine, or is computed from its q and k where the page says so; this page needs no network.`,
};

/** @type {typeof EN} */
const ZH = {
  title: ["", " 读了什么？"],
  intro: (model, tokens) =>
    `${model} 读了 ${tokens} 个词元。点一个来提问：颜色越深，它分到的注意力越多。`,
  place: (i) => `第 ${i} 个词元`,
  tokens: "词元。方向键换提问的词元，回车转到它的回应。",
  asks: "提问的词元",
  reads: "被读的词元",
  ranking: (w) => `${w} 读了什么，由强到弱`,
  rest: "其余全部",
  open: (a, b, p) => `${b}，${p}。展开 ${a} 如何读到它`,
  go: (b, p) => `${b}，${p}。让它提问`,
  head: (l, h) => `第 ${l} 层，第 ${h} 头`,
  spread: (n) => `在这里，一个词元实际上读 ${n} 个词元`,
  sink: (k, p) => `它的注意力有 ${p} 停在第 ${k} 个词元上`,
  exact: "在此由 q 和 k 算出，引擎的 log-sum-exp 可以证实",
  carried: "来自引擎的记录，保留 5 位小数",
  onlyBlocks:
    "本文件只带有这个头的分块图：保存时给更多空间（megabytes=…），或指定这个头（tiles=[…]）。",
  loading: "本文件的其余部分还在读入……",
  map: "谁读了什么",
  zoom: "大小",
  closer: "靠近",
  farther: "拉远",
  whole: "全部",
  wholeLabel: "整个矩阵",
  mapExact:
    "纵向是查询，横向是键。远看是分块和它们的注意力份额；点击靠近，直到每一个精确的权重。拖动可移动。",
  mapBlocks: (n) => `纵向是查询，横向是键，每块 ${n} 个词元。`,
  tooLarge: "本文件不带有这个头的单个权重。",
  block: (both, p, most) => `${both}  所在分块：平均 ${p}，最大 ${most}`,
  mapLabel: (h) => `${h} 的图。方向键移动，加减号缩放，0 显示全部，回车展开权重。`,
  heads: "每个头读的都不一样",
  headsIntro:
    "行是层，列是头：每个头的分块图，以及一个词元在其中实际上读多少个词元（e 的熵次方）。下方的灰线：单个词元拿走了所有词元这么多的注意力。",
  headLabel: (h, n) => `${h}：实际上读 ${n} 个词元`,
  weightIntro: (a, b) => `${a} 如何读到 ${b}。`,
  compare: "问题与键逐个相乘，再加起来。",
  scaled: (s) => `× ${s}`,
  capped: "softcap",
  sloped: "ALiBi",
  masked: "被掩码：这个词元不能读",
  compete: "对分数取 e 的幂，与所有对手相比：e^(分数 − log-sum-exp) 就是权重。",
  lse: "所有分数的 log-sum-exp",
  holds: (d) => `在此重算：log-sum-exp 与引擎一致，差 ${d}`,
  differs: (d) => `在此重算：log-sum-exp 与引擎不一致，差 ${d}`,
  noValue: "qkv.watch 只保留 q 和 k，不保留值：这个词元带走了什么，不在本文件里。",
  keys: "← → 换词元，↑ ↓ 换行，回车转到回应，Esc 返回",
  foot: (v, isa) =>
    `由 qkv ${v}（${isa}）生成。每个数字都来自引擎，或在标明之处由引擎的 q 和 k 算出；本页不需要网络。`,
};

/** @type {Record<string, typeof EN>} */
export const WATCH = { en: EN, zh: ZH };

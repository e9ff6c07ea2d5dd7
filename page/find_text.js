// What the page of a finder says, in English and in Chinese.

const EN = {
  title: ["What did ", " read?"],
  present: (/** @type {number} */ n) =>
    ` is in this picture, found ${n === 1 ? "once" : `${n} times`}`,
  unsure: " may be in this picture, but no object stands out",
  absent: " is not in this picture",
  presence: (/** @type {string} */ p) => `presence ${p}`,
  intro:
    "Every object is a query Q. It read the words of the prompt and the patches of the picture, layer by layer, before it said where the object is. Pick who asks, or click a patch: it asked the other patches when the picture was read.",
  askers: "Who asks",
  presenceToken: "presence",
  presenceName: "the presence token",
  object: (/** @type {number} */ n) => `object ${n}`,
  query: (/** @type {number} */ n) => `query ${n}`,
  others: (/** @type {number} */ n) =>
    `${n} more ${n === 1 ? "query" : "queries"}, which found nothing`,
  fewer: "only those that found something",
  patch: (/** @type {number} */ y, /** @type {number} */ x) => `patch ${y}·${x}`,
  patchPlace: (/** @type {number} */ y, /** @type {number} */ x) => `row ${y}, column ${x}`,
  beside: "beside the picture",
  picture: (/** @type {string} */ who) =>
    `The picture, with what ${who} read. Arrow keys move over the patches, Enter lets a patch ask.`,
  views: "What the picture shows",
  viewRead: "what was read",
  viewMasks: "masks",
  viewPlain: "picture",
  itself: (/** @type {string} */ p) => `${p} of itself`,
  scale: (/** @type {string} */ least, /** @type {string} */ most) => `${least} to ${most} a patch`,
  inEffect: (/** @type {string} */ n, /** @type {number} */ all) =>
    `in effect ${n} of ${all} patches`,
  onObject: (/** @type {string} */ p, /** @type {string} */ c) =>
    `${p} lies on the object, ${c} would by chance`,
  besides: (/** @type {string} */ p) => `${p} went beside the picture`,
  from: "It began at",
  layer: "Layer",
  mean: "mean of heads",
  layerMean: (/** @type {number} */ l) => `layer ${l}, mean of its heads`,
  meanOpens: "An opened weight is that of the head which gives the most.",
  words: "words read",
  patches: "patches read",
  queries: "queries read",
  ranking: (/** @type {string} */ who, /** @type {string} */ what) =>
    `${who}, ${what}, strongest first`,
  rest: (/** @type {number} */ n) => `${n} others`,
  grid: "Every layer and head",
  gridQuery:
    "Rows are layers of the decoder, columns its heads. The more orange a patch, the more was read of it; each map has its own scale.",
  gridPatch:
    "Rows are layers of the picture's encoder, columns its heads. The more orange a patch, the more was read of it; each map has its own scale, without what the patch read of itself.",
  gridWords: "And the words, through heads of their own",
  gridWordsIntro:
    "Each bar is a word of the prompt, in its order; the last is the mark of its end.",
  mostPatch: (/** @type {string} */ p) => `at most ${p}`,
  noMask: "no mask: everything may be read",
  step3Text: "The value, by its weight; over everything that was read these add to the output.",
  keys: "Arrow keys move over the picture, Enter lets a patch ask, Esc goes back",
  runs: "Prompt",
};

/** @type {typeof EN} */
const ZH = {
  title: ["", " 读了什么？"],
  present: (n) => ` 在这张图里，找到 ${n} 个`,
  unsure: " 可能在这张图里，但没有一个物体足够清楚",
  absent: " 不在这张图里",
  presence: (p) => `存在概率 ${p}`,
  intro:
    "每个物体都是一个查询 Q。它逐层读提示词，也读图片的图块，然后才说出物体在哪里。选一个提问者，或者点一个图块：模型读图时，它也问过其他图块。",
  askers: "谁在提问",
  presenceToken: "存在",
  presenceName: "存在标记",
  object: (n) => `物体 ${n}`,
  query: (n) => `查询 ${n}`,
  others: (n) => `另外 ${n} 个没有找到物体的查询`,
  fewer: "只看找到物体的",
  patch: (y, x) => `图块 ${y}·${x}`,
  patchPlace: (y, x) => `第 ${y} 行，第 ${x} 列`,
  beside: "图片之外",
  picture: (who) => `图片，以及 ${who} 读了哪里。方向键在图块间移动，回车让图块提问。`,
  views: "图片上显示什么",
  viewRead: "读了哪里",
  viewMasks: "掩码",
  viewPlain: "原图",
  itself: (p) => `读自己 ${p}`,
  scale: (least, most) => `每个图块 ${least} 到 ${most}`,
  inEffect: (n, all) => `${all} 个图块中有效 ${n} 个`,
  onObject: (p, c) => `${p} 落在物体上，随机为 ${c}`,
  besides: (p) => `${p} 落在图片之外`,
  from: "起点是",
  layer: "层",
  mean: "各头平均",
  layerMean: (l) => `第 ${l} 层，各头平均`,
  meanOpens: "展开的权重取自给得最多的那个头。",
  words: "读到的词",
  patches: "读到的图块",
  queries: "读到的查询",
  ranking: (who, what) => `${who}，${what}，由强到弱`,
  rest: (n) => `其余 ${n} 个`,
  grid: "每一层，每个头",
  gridQuery: "行是解码器的层，列是它的头。图块越橙，被读得越多；每张小图各有刻度。",
  gridPatch:
    "行是图片编码器的层，列是它的头。图块越橙，被读得越多；每张小图各有刻度，不计图块读自己的部分。",
  gridWords: "还有词，经由它们自己的头",
  gridWordsIntro: "每一条是提示里的一个词，按原来的顺序；最后一条是句末标记。",
  mostPatch: (p) => `最多 ${p}`,
  noMask: "没有掩码：一切都可读",
  step3Text: "值乘以权重；读到的一切加起来就是输出。",
  keys: "方向键在图片上移动，回车让图块提问，Esc 返回",
  runs: "提示",
};

/** @typedef {typeof EN} FindText */
/** @type {Record<string, FindText>} */
export const FIND_TEXTS = { en: EN, zh: ZH };

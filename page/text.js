// What the page says, in English and in Chinese, and how it writes numbers.

const ROLES = {
  en: {
    coreference: "coreference",
    syntax: "syntax",
    meaning: "meaning",
    previous: "previous word",
    next: "next word",
    same: "itself",
    delimiter: "punctuation and marks",
    mixed: "mixed",
    alignment: "alignment",
    position: "position",
  },
  zh: {
    coreference: "指代",
    syntax: "句法",
    meaning: "词义",
    previous: "前一个词",
    next: "后一个词",
    same: "自身",
    delimiter: "标点与标记",
    mixed: "混合",
    alignment: "对齐",
    position: "位置",
  },
};

const EN = {
  /** Before and after the word that asks. */
  title: ["What did ", " read?"],
  titleTranslate: ["What was read to write ", "?"],
  intro:
    "A trained model read this sentence. Pick a word to ask: Q is its question, K is how the others answer, V is what it takes away.",
  introTranslate:
    "A trained model wrote this translation. Pick a word to see which words of the source it read.",
  sentence: "The sentence. Pick the word that asks.",
  source: "Source",
  translation: "Translation",
  runs: "Sentence",
  asks: "asks",
  answers: "answers",
  taken: "taken away",
  asksOf: (/** @type {string} */ w) => `the question of ${w}`,
  answersOf: (/** @type {string} */ w, /** @type {string} */ p) => `${w} answers, ${p}`,
  takenOf: "the mixed value that goes on",
  ranking: (/** @type {string} */ w) => `What ${w} read, strongest first`,
  rest: "the rest",
  special: (/** @type {string} */ t) =>
    /** @type {string} */ (t === "end" ? "end of sentence, where heads rest" : "mark of the model"),
  open: (/** @type {string} */ a, /** @type {string} */ b, /** @type {string} */ p) =>
    `${b}, ${p}. Open how ${a} came to read it`,
  head: (/** @type {number} */ l, /** @type {number} */ h) => `layer ${l}, head ${h}`,
  through: "through",
  right: (/** @type {string} */ s, /** @type {string} */ c) => `right ${s}, by chance ${c}`,
  unmeasured: "not measured",
  heads: "Every head reads something else",
  headsIntro:
    "Rows are layers, columns are heads. What each head does was measured on labelled sentences: how often it is right, beside what chance would give.",
  headsAt: (/** @type {string} */ w) => `Beneath: what ${w} read most there.`,
  matrix: "One head, every word",
  matrixIntro:
    "Each row is a word that asks, each column a word that is read. Pick a cell to open its weight.",
  linear: "linear",
  log: "logarithmic",
  scale: "Colour scale",
  sink: "model's marks, apart",
  matrixLabel: (/** @type {string} */ h) =>
    `Matrix of ${h}. Arrow keys move, Enter opens the weight.`,
  weight: "One weight, from the bottom up",
  weightIntro: (/** @type {string} */ a, /** @type {string} */ b) => `How ${a} came to read ${b}.`,
  pieces: (/** @type {string} */ a, /** @type {string} */ b) =>
    `The model reads pieces of words; these two are followed: ${a} → ${b}.`,
  together: (/** @type {string} */ p) =>
    `Summed over the pieces read and averaged over those that asked, the word's weight is ${p}.`,
  step1: "Compare",
  step2: "Compete",
  step3: "Take away",
  step1Text: "Multiply question and key, number by number, and add up.",
  step2Text: "e to the score, against all rivals. The weights add to 100%.",
  step3Text: "The value, by its weight; over all words these add to the output.",
  product: "q · k, one product each",
  sum: "sum",
  scaled: "÷ √dₖ",
  exp: "e^(score − largest)",
  share: "weight",
  value: "value",
  times: "weight × value",
  output: "output, all values mixed",
  noMask: "no mask: every word may be read",
  masked: "masked: a word that comes later",
  rivals: "The rivals",
  agrees: (/** @type {string} */ d) =>
    `Recomputed here: agrees with the engine, largest difference ${d}`,
  agreesLse: "Recomputed here: agrees with the log-sum-exp of the engine",
  differs: (/** @type {string} */ d) => `Recomputed here: DIFFERS from the engine by ${d}`,
  outputAgrees: (/** @type {string} */ d) =>
    `The output agrees with the engine's own, largest difference ${d}`,
  outputDiffers: (/** @type {string} */ d) => `The output DIFFERS from the engine's own by ${d}`,
  noOutput: "The engine's own output of this head is not in this page; the sum is computed here.",
  recomputed: "weights recomputed in this page from q and k",
  confirmed: "✓ the log-sum-exp of every row is the engine's",
  unconfirmed: "✗ the log-sum-exp of a row is NOT the engine's",
  close: "Close",
  escape: "Esc closes",
  lines: "The alignment",
  linesIntro: "A line for each word read; the thicker, the more.",
  type: "Type a sentence, English or Chinese",
  look: "Look",
  translate: "Translate",
  unreachable: "qkv serve does not answer. Is it still running?",
  example: "The cat sat on the mat because it was tired",
  language: "中文",
  languageLabel: "中文：切换为中文",
  foot: (/** @type {string} */ v, /** @type {string} */ isa) =>
    `Made by qkv ${v} (${isa}). Every number comes from the engine itself; this page needs no network.`,
  keys: "← → move between words, ↑ ↓ between answers, Enter opens, Esc goes back",
};

/** @type {typeof EN} */
const ZH = {
  title: ["", " 读了什么？"],
  titleTranslate: ["写出 ", " 时读了什么？"],
  intro:
    "一个训练好的模型读了这句话。点一个词来提问：Q 是它的问题，K 是其他词的回应，V 是它带走的内容。",
  introTranslate: "一个训练好的模型写出了这句译文。点一个词，看它读了原文的哪些词。",
  sentence: "句子。点选提问的词。",
  source: "原文",
  translation: "译文",
  runs: "句子",
  asks: "提问",
  answers: "回应",
  taken: "带走",
  asksOf: (w) => `${w} 的问题`,
  answersOf: (w, p) => `${w} 回应，${p}`,
  takenOf: "混合后继续向上的值",
  ranking: (w) => `${w} 读了什么，由强到弱`,
  rest: "其余",
  special: (t) => (t === "end" ? "句末，注意力头的歇脚处" : "模型的标记"),
  open: (a, b, p) => `${b}，${p}。展开 ${a} 如何读到它`,
  head: (l, h) => `第 ${l} 层，第 ${h} 头`,
  through: "经由",
  right: (s, c) => `正确率 ${s}，随机为 ${c}`,
  unmeasured: "未测量",
  heads: "每个头读的都不一样",
  headsIntro:
    "行是层，列是头。每个头的作用都在有标注的句子上测量过：它有多常正确，旁边是随机水平。",
  headsAt: (w) => `下方：${w} 在那里读得最多的词。`,
  matrix: "一个头，所有词",
  matrixIntro: "每一行是提问的词，每一列是被读的词。点一格，展开它的权重。",
  linear: "线性",
  log: "对数",
  scale: "颜色刻度",
  sink: "模型的标记，单独列出",
  matrixLabel: (h) => `${h} 的矩阵。方向键移动，回车展开权重。`,
  weight: "一个权重，从头算起",
  weightIntro: (a, b) => `${a} 如何读到 ${b}。`,
  pieces: (a, b) => `模型读的是词的片段；这里跟踪这两个：${a} → ${b}。`,
  together: (p) => `对被读的片段求和，对提问的片段取平均，这个词的权重是 ${p}。`,
  step1: "比较",
  step2: "竞争",
  step3: "带走",
  step1Text: "问题与键逐个相乘，再加起来。",
  step2Text: "对分数取 e 的幂，与所有对手相比。权重之和为 100%。",
  step3Text: "值乘以权重；所有词的加起来就是输出。",
  product: "q · k，逐个乘积",
  sum: "总和",
  scaled: "÷ √dₖ",
  exp: "e^(分数 − 最大分数)",
  share: "权重",
  value: "值",
  times: "权重 × 值",
  output: "输出，所有值的混合",
  noMask: "没有掩码：每个词都可读",
  masked: "被掩码：这个词在后面",
  rivals: "对手们",
  agrees: (d) => `在此重算：与引擎一致，最大差 ${d}`,
  agreesLse: "在此重算：与引擎的 log-sum-exp 一致",
  differs: (d) => `在此重算：与引擎不一致，差 ${d}`,
  outputAgrees: (d) => `输出与引擎自己的一致，最大差 ${d}`,
  outputDiffers: (d) => `输出与引擎自己的不一致，差 ${d}`,
  noOutput: "本页没有带上引擎对这个头的输出；这个和是在此算出的。",
  recomputed: "权重由本页从 q 和 k 重算",
  confirmed: "✓ 每一行的 log-sum-exp 都与引擎相同",
  unconfirmed: "✗ 有一行的 log-sum-exp 与引擎不同",
  close: "关闭",
  escape: "按 Esc 关闭",
  lines: "对齐",
  linesIntro: "每读一个词画一条线，越粗读得越多。",
  type: "输入一句话，中文或英文",
  look: "看一看",
  translate: "翻译",
  unreachable: "qkv serve 没有回应。它还在运行吗？",
  example: "那个红色的苹果看起来很好吃，我想吃掉它",
  language: "English",
  languageLabel: "English: switch to English",
  foot: (v, isa) => `由 qkv ${v}（${isa}）生成。每个数字都来自引擎本身；本页不需要网络。`,
  keys: "← → 换词，↑ ↓ 换回应，回车展开，Esc 返回",
};

/** @typedef {typeof EN} Text */
/** @type {Record<string, Text>} */
export const TEXTS = { en: EN, zh: ZH };

/** @param {string} language @param {string} role */
export function roleName(language, role) {
  const names = /** @type {Record<string, string>} */ (language === "zh" ? ROLES.zh : ROLES.en);
  return names[role] ?? role;
}

/** 81.2%, <0.1%, 0%: as the terminal writes it. @param {number} weight */
export function percent(weight) {
  if (weight <= 0) return "0%";
  if (weight < 0.0005) return "<0.1%";
  return `${(weight * 100).toFixed(1)}%`;
}

/** 77%. @param {number} share */
export function wholePercent(share) {
  return `${Math.round(share * 100)}%`;
}

/** A signed number with a true minus. @param {number} value @param {number} [digits] */
export function number(value, digits = 3) {
  if (value === -Infinity) return "−∞";
  const small = value !== 0 && Math.abs(value) < 10 ** -digits;
  const text = small ? value.toExponential(1) : value.toFixed(digits);
  return text.replace(/-/g, "−");
}

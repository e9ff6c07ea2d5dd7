// The words of the guided tour, in English and in Chinese; tour.js draws the numbers beside them.

/** @typedef {{title: string, text: string}} Step */

const EN = {
  name: "Eight steps, on this sentence",
  next: "Next",
  back: "Back",
  step: (/** @type {number} */ n) => `Step ${n} of 8`,
  without: "unscaled",
  withScale: "÷ √dₖ",
  slider: "Divide by √dₖ, less and less",
  factor: "score = q·k ×",
  largest: "largest weight",
  effective: "effective number of words",
  gradient: "gradient that is left",
  cosine: "cosine of k and v",
  variance: "spread of the scores (standard deviation)",
  before: "before training",
  after: "after training",
  noBefore: "The numbers before training are not in this page.",
  measured: "How often this head is right:",
  right: "right, on labelled sentences",
  chance: "right by chance",
  queries: "questions, from",
  keys: "keys and values, from",
  /** @type {Step[]} */
  steps: [
    {
      title: "A question",
      text: "Every word is a vector. A learned matrix W_Q turns it into a query: a short list of numbers that says what this word is looking for.",
    },
    {
      title: "Compared with every key",
      text: "Another matrix, W_K, gives each word a key: how it can be found. Query and key are multiplied number by number and added up. Large means they fit, negative means they do not.",
    },
    {
      title: "Why √dₖ",
      text: "A sum of dₖ products spreads with √dₖ. Move the slider to leave the division out: the scores spread, one word takes everything, and the gradient, all that training could learn from, fades.",
    },
    {
      title: "Shares of one whole",
      text: "Softmax takes e to each score and divides by the sum. The shares are never negative and add up to 100%: attention is a choice, made softly.",
    },
    {
      title: "A key is not a value",
      text: "How a word is found and what it gives are two things. W_K and W_V are different matrices, so the same word has a key and another vector, its value. Their cosine tells how little they have in common.",
    },
    {
      title: "Why many heads",
      text: "One head answers one kind of question. Side by side, several look for different things at once; here is what the same word reads most in each head of this layer.",
    },
    {
      title: "Of itself, or of another",
      text: "In self-attention questions, keys and values come from the same sentence. In cross-attention, as when a translation is written, the questions come from one text and the keys and values from another. The step itself is the same.",
    },
    {
      title: "What was learned",
      text: "No one wrote down what a head should look for word by word: gradient descent moved W_Q, W_K and W_V until it helped. Here is the same sentence in the same head with the random weights that training begins with, computed by the same engine, beside what the trained head reads.",
    },
  ],
};

/** @type {typeof EN} */
const ZH = {
  name: "用这句话，走八步",
  next: "下一步",
  back: "上一步",
  step: (n) => `第 ${n} 步，共 8 步`,
  without: "不缩放",
  withScale: "÷ √dₖ",
  slider: "逐渐去掉除以 √dₖ",
  factor: "分数 = q·k ×",
  largest: "最大权重",
  effective: "有效词数",
  gradient: "剩下的梯度",
  cosine: "k 与 v 的余弦",
  variance: "分数的离散程度（标准差）",
  before: "训练之前",
  after: "训练之后",
  noBefore: "本页没有带上训练之前的数字。",
  measured: "这个头有多常正确：",
  right: "正确率（有标注的句子）",
  chance: "随机正确率",
  queries: "问题来自",
  keys: "键和值来自",
  steps: [
    {
      title: "一个问题",
      text: "每个词都是一个向量。学到的矩阵 W_Q 把它变成查询：一小串数字，说明这个词在找什么。",
    },
    {
      title: "与每个键比较",
      text: "另一个矩阵 W_K 给每个词一个键：它怎样被找到。查询与键逐个数相乘再相加。越大越相配，负数则不相配。",
    },
    {
      title: "为什么除以 √dₖ",
      text: "dₖ 个乘积之和的离散程度随 √dₖ 增长。移动滑块，去掉这个除法：分数散开，一个词拿走一切，训练赖以学习的梯度消失。",
    },
    {
      title: "一个整体的份额",
      text: "softmax 对每个分数取 e 的幂，再除以总和。份额不会为负，加起来是 100%：注意力是一种柔和的选择。",
    },
    {
      title: "键不是值",
      text: "怎样被找到和给出什么是两回事。W_K 与 W_V 是不同的矩阵，所以同一个词有一个键，还有另一个向量：它的值。它们的余弦说明两者相同之处有多少。",
    },
    {
      title: "为什么要多个头",
      text: "一个头只回答一种问题。几个头并排，同时寻找不同的东西；下面是同一个词在这一层每个头里读得最多的词。",
    },
    {
      title: "读自己，或读别人",
      text: "自注意力中，问题、键和值来自同一句话。交叉注意力中，例如写译文时，问题来自一段文字，键和值来自另一段。步骤本身是一样的。",
    },
    {
      title: "学到了什么",
      text: "没有人逐词写下一个头该找什么：梯度下降移动 W_Q、W_K 和 W_V，直到它有用。下面是同一句话在同一个头里、用训练开始时的随机权重由同一个引擎算出的结果，旁边是训练后的头读到的。",
    },
  ],
};

/** @type {Record<string, typeof EN>} */
export const TOURS = { en: EN, zh: ZH };

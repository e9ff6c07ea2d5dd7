// The alignment of a translation: source words above, the translation below, a line for each word that was read.
import { wordWeights } from "qkv/data.js";
import { el, svg } from "qkv/dom.js";
import { percent } from "qkv/text.js";

/** @typedef {import("qkv/main.js").State} State */

const FONT_SIZE = 20;
const SPACE = 22;
const HEIGHT = 190;
const LEAST = 0.05; // thinner lines would only be noise; the ranking has every number

/** @param {string} text */
function widthOf(text) {
  const pen = /** @type {CanvasRenderingContext2D} */ (
    document.createElement("canvas").getContext("2d")
  );
  pen.font = `${FONT_SIZE}px "Noto Serif CJK SC", "Songti SC", Georgia, serif`;
  return pen.measureText(text).width;
}

/** Centres of the words, in one line. @param {import("qkv/data.js").Side} side */
function place(side) {
  let x = 10;
  const centres = side.words.slice(0, side.sentence).map((word) => {
    const width = Math.max(16, widthOf(word.text));
    x += width + SPACE;
    return x - SPACE - width / 2;
  });
  return { centres, width: x };
}

/** @param {State} first @param {import("qkv/main.js").Change} change @returns {import("qkv/main.js").View} */
export function alignmentView(first, change) {
  const { run, say } = first;
  const above = place(run.key);
  const below = place(run.query);
  const width = Math.max(above.width, below.width);
  const shift = (/** @type {{width: number}} */ row) => (width - row.width) / 2;
  const lines = svg("g", {});
  const words = [
    ...run.key.words
      .slice(0, run.key.sentence)
      .map((word, i) =>
        svg(
          "text",
          { x: above.centres[i] + shift(above), y: 24, class: "k", "data-key": i },
          word.text,
        ),
      ),
    ...run.query.words.slice(0, run.query.sentence).map((word, i) =>
      svg(
        "text",
        {
          x: below.centres[i] + shift(below),
          y: HEIGHT - 10,
          class: "q",
          "data-query": i,
          onclick: () => change({ word: i }),
        },
        word.text,
      ),
    ),
  ];
  const picture = svg(
    "svg",
    { class: "lines", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img" },
    lines,
    words,
  );
  return {
    node: el(
      "section",
      { class: "alignment" },
      el("h2", {}, say.lines),
      el("p", { class: "intro" }, say.linesIntro),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": say.lines }, picture),
    ),
    draw(state) {
      const columns = run.key.words.length;
      /** @type {SVGElement[]} */
      const drawn = [];
      /** @type {string[]} */
      const told = [];
      for (let query = 0; query < run.query.sentence; ++query) {
        const head = run.fitting[query]?.[0] ?? state.at;
        const weights = wordWeights(run, head[0], head[1]);
        for (let key = 0; key < run.key.sentence; ++key) {
          const weight = weights[query * columns + key];
          if (weight < LEAST) continue;
          const x1 = above.centres[key] + shift(above);
          const x2 = below.centres[query] + shift(below);
          const dim =
            (state.focus !== null && state.focus !== key) ||
            (state.focus === null && query !== state.word);
          drawn.push(
            svg(
              "path",
              {
                d: `M${x1} 34C${x1} 90 ${x2} 100 ${x2} ${HEIGHT - 34}`,
                class: dim ? "" : "picked",
                "--w": weight,
                "stroke-width": (1 + 9 * weight).toFixed(1),
              },
              svg(
                "title",
                {},
                `${run.key.words[key].text} → ${run.query.words[query].text} ${percent(weight)}`,
              ),
            ),
          );
          told.push(
            `${run.query.words[query].text}: ${run.key.words[key].text} ${percent(weight)}`,
          );
        }
      }
      lines.replaceChildren(...drawn);
      picture.setAttribute("aria-label", `${say.lines}. ${told.join("; ")}`);
      for (const word of words)
        word.classList.toggle("picked", word.getAttribute("data-query") === String(state.word));
    },
  };
}

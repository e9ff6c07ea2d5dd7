// The grid of layers × heads: what each was measured to do, its pattern over the sentence, and what the asking word read there.
import { reading, wordWeights } from "qkv/data.js";
import { colour, context, el } from "qkv/dom.js";
import { percent, roleName, wholePercent } from "qkv/text.js";

/** @typedef {import("qkv/main.js").State} State */

const SIDE = 72; // of a pattern, in CSS pixels
const AT_ONCE = 10000; // weights of a head; heads with more are drawn one after another, so that the page never stalls
const MOST = 48; // words of a pattern; more would be smaller than a pixel is worth

/** @param {HTMLCanvasElement} canvas @param {State} state @param {number} layer @param {number} head @param {string} ink */
function pattern(canvas, state, layer, head, ink) {
  const { run } = state;
  const rows = Math.min(MOST, run.query.sentence);
  const columns = Math.min(MOST, run.key.sentence);
  const weights = wordWeights(run, layer, head);
  const pen = context(canvas, SIDE, SIDE);
  pen.clearRect(0, 0, SIDE, SIDE);
  pen.fillStyle = ink;
  for (let row = 0; row < rows; ++row) {
    for (let column = 0; column < columns; ++column) {
      // Square roots let small weights be seen at this size.
      pen.globalAlpha = Math.min(1, Math.sqrt(weights[row * run.key.words.length + column]));
      pen.fillRect((column * SIDE) / columns, (row * SIDE) / rows, SIDE / columns, SIDE / rows);
    }
  }
}

/** @param {State} first @param {import("qkv/main.js").Change} change @returns {import("qkv/main.js").View} */
export function headsView(first, change) {
  const { run, say, language } = first;
  const at = el("p", { class: "note" });
  const cells = run.layers.flatMap((layer, l) =>
    Array.from({ length: layer.heads }, (_, h) => {
      const role = layer.roles[h][0];
      const canvas = /** @type {HTMLCanvasElement} */ (el("canvas", { "aria-hidden": "true" }));
      const most = el("span", { class: "most" });
      const name = role ? roleName(language, role.role) : say.unmeasured;
      const button = el(
        "button",
        {
          type: "button",
          class: `head${role?.guided ? " guided" : ""}`,
          onclick: () => change({ at: [l, h] }),
        },
        canvas,
        el("span", { class: "role" }, name),
        role &&
          el(
            "span",
            { class: "score" },
            `${wholePercent(role.score)} `,
            el("small", {}, `/ ${wholePercent(role.chance)}`),
          ),
        most,
      );
      return {
        l,
        h,
        canvas,
        most,
        button,
        label: role
          ? `${say.head(l, h)}, ${name}, ${say.right(wholePercent(role.score), wholePercent(role.chance))}`
          : `${say.head(l, h)}, ${name}`,
      };
    }),
  );
  const columns = Math.max(...run.layers.map((layer) => layer.heads));
  const rows = run.layers.map((_, l) =>
    el(
      "div",
      { class: "layer", role: "group", "aria-label": `${l}` },
      el("span", { class: "number" }, String(l)),
      cells.filter((cell) => cell.l === l).map((cell) => cell.button),
    ),
  );
  let painted = "";
  let drawn = "";
  let turn = 0; // of several draws under way, only the last goes on

  /** @param {State} state @param {(typeof cells)[number]} cell @param {string} ink */
  function drawCell(state, { l, h, canvas, most, button, label }, ink) {
    const { read, specials } = reading(run, l, h, state.word, 1);
    const best = [...read, ...specials].sort((a, b) => b.weight - a.weight)[0];
    most.textContent = best ? `${run.key.words[best.index].text} ${percent(best.weight)}` : "";
    button.setAttribute("aria-label", `${label}. ${most.textContent}`);
    if (painted !== ink) pattern(canvas, state, l, h, ink);
  }

  return {
    node: el(
      "section",
      { class: "heads" },
      el("h2", {}, say.heads),
      el("p", { class: "intro" }, say.headsIntro),
      at,
      el("div", { class: "scroll" }, el("div", { class: "grid", "--heads": columns }, rows)),
    ),
    draw(state) {
      const ink = colour("--k-fill");
      at.textContent = say.headsAt(state.run.query.words[state.word].text);
      for (const { l, h, button } of cells)
        button.setAttribute("aria-pressed", String(l === state.at[0] && h === state.at[1]));
      const shown = `${state.word} ${ink}`;
      if (shown === drawn) return;
      drawn = shown;
      const mine = (turn += 1);
      const fresh = painted !== ink;
      const wait = fresh && run.query.pieces.length * run.key.pieces.length > AT_ONCE;
      /** @param {number} i */
      const next = (i) => {
        if (turn !== mine) return;
        drawCell(state, cells[i], ink);
        if (i + 1 < cells.length) setTimeout(next, 0, i + 1);
        else painted = ink;
      };
      if (wait) return next(0);
      for (const cell of cells) drawCell(state, cell, ink);
      painted = ink;
    },
  };
}

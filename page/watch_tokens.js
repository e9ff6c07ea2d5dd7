// Thousands of tokens that can be picked: they are laid out into lines once, and only the lines in sight are elements.
import { el } from "qkv/dom.js";

const LINE = 38; // pixels from one line to the next
const SPARE = 4; // lines above and below those in sight
const PADDING = 9; // pixels of a token beside its text
const FONT =
  '19px "Iowan Old Style", "Source Serif 4", "Noto Serif CJK SC", "Source Han Serif SC", "Songti SC", Georgia, serif';
const SEEN = 0.0005; // shows as 0.1%

/** Text that can be seen: marks for what is only white space. @param {string} text */
export function visibleText(text) {
  const shown = text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
  return shown.trim() === "" ? shown.replace(/ /g, "␣") || "∅" : shown.trim();
}

/**
 * A list of tokens to pick from: arrow keys move by token and line, Page Up and Page Down by a view, Home and End to the ends.
 * @param {{label: string, tokens: string[], prefix: string, pick: (index: number) => void, answers: () => void}} options
 */
export function tokenList({ label, tokens, prefix, pick, answers }) {
  const texts = tokens.map(visibleText);
  const inside = el("div", { class: "lines-of-tokens", role: "presentation" });
  const node = el(
    "div",
    { class: "tokens", role: "listbox", tabindex: 0, "aria-label": label, onkeydown, onclick },
    inside,
  );
  /** First token of each line, and behind the last line the number of tokens. @type {number[]} */
  let starts = [0, texts.length];
  let laidOutWidth = -1;
  /** @type {Map<number, HTMLElement>} */
  const drawn = new Map();
  let asked = -1;
  let focus = -1;
  /** @type {(index: number) => number} */
  let strength = () => 0;

  const pen = /** @type {CanvasRenderingContext2D} */ (
    document.createElement("canvas").getContext("2d")
  );
  /** @type {Map<string, number>} */
  const widths = new Map();
  /** @param {string} text */
  function widthOf(text) {
    let width = widths.get(text);
    if (width === undefined)
      widths.set(text, (width = Math.ceil(pen.measureText(text).width) + PADDING));
    return width;
  }
  function layOut() {
    const width = node.clientWidth - 20;
    if (width === laidOutWidth || width <= 0) return;
    laidOutWidth = width;
    pen.font = FONT;
    starts = [0];
    let x = 0;
    texts.forEach((text, i) => {
      const wide = Math.min(widthOf(text), width);
      const breaks = i > 0 && tokens[i - 1].includes("\n");
      if (i > 0 && (x + wide > width || breaks)) {
        starts.push(i);
        x = 0;
      }
      x += wide;
    });
    starts.push(texts.length);
    inside.style.height = `${(starts.length - 1) * LINE}px`;
    for (const line of drawn.values()) line.remove();
    drawn.clear();
    if (asked >= 0) reveal(asked);
  }
  /** The line of a token, by bisection. @param {number} index */
  function lineOf(index) {
    let low = 0;
    let high = starts.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {HTMLElement} token @param {number} index */
  function paint(token, index) {
    const weight = Math.min(1, strength(index));
    token.style.setProperty("--w", String(Math.sqrt(weight)));
    token.classList.toggle("answers", weight >= SEEN);
    token.classList.toggle("asks", index === asked);
    token.classList.toggle("focus", index === focus);
    token.setAttribute("aria-selected", String(index === asked));
  }
  /** @param {number} line */
  function makeLine(line) {
    const made = el("div", { class: "line-of-tokens", role: "presentation" });
    made.style.top = `${line * LINE}px`;
    for (let i = starts[line]; i < starts[line + 1]; ++i) {
      const token = el(
        "span",
        {
          class: "token",
          role: "option",
          id: `${prefix}-${i}`,
          "data-token": i,
          "aria-posinset": i + 1,
          "aria-setsize": texts.length,
          dir: "auto",
        },
        texts[i],
      );
      paint(token, i);
      made.append(token);
    }
    return made;
  }
  /** Makes the lines that came into sight, removes those that left it; the line of the token that asks stays, for those who are
   * read to. */
  function show() {
    const first = Math.max(0, Math.floor(node.scrollTop / LINE) - SPARE);
    const end = Math.min(
      starts.length - 1,
      Math.ceil((node.scrollTop + node.clientHeight) / LINE) + SPARE,
    );
    const kept = asked >= 0 ? lineOf(asked) : -1;
    for (const [line, made] of drawn) {
      if ((line >= first && line < end) || line === kept) continue;
      made.remove();
      drawn.delete(line);
    }
    for (let line = first; line < end; ++line) if (!drawn.has(line)) add(line);
    if (kept >= 0 && !drawn.has(kept)) add(kept);
  }
  /** @param {number} line */
  function add(line) {
    const made = makeLine(line);
    drawn.set(line, made);
    inside.append(made);
  }
  /** Scrolls a token into sight. @param {number} index */
  function reveal(index) {
    const top = lineOf(index) * LINE;
    if (top < node.scrollTop || top + LINE > node.scrollTop + node.clientHeight)
      node.scrollTop = top - (node.clientHeight - LINE) / 2;
    show();
  }

  /** @param {MouseEvent} event */
  function onclick(event) {
    const token = /** @type {HTMLElement} */ (event.target).closest?.("[data-token]");
    if (token) pick(Number(token.getAttribute("data-token")));
  }
  /** @param {KeyboardEvent} event */
  function onkeydown(event) {
    const line = lineOf(asked);
    const page = Math.max(1, Math.floor(node.clientHeight / LINE) - 1);
    /** @param {number} to */
    const byLine = (to) => {
      const wanted = Math.max(0, Math.min(starts.length - 2, to));
      return Math.min(starts[wanted] + asked - starts[line], starts[wanted + 1] - 1);
    };
    const next = {
      ArrowRight: asked + 1,
      ArrowLeft: asked - 1,
      ArrowDown: byLine(line + 1),
      ArrowUp: byLine(line - 1),
      PageDown: byLine(line + page),
      PageUp: byLine(line - page),
      Home: 0,
      End: texts.length - 1,
    }[event.key];
    if (event.key === "Enter") {
      event.preventDefault(); // else the answer that gets the focus is pressed too
      return answers();
    }
    if (next === undefined) return;
    event.preventDefault();
    pick(Math.max(0, Math.min(texts.length - 1, next)));
  }
  node.addEventListener("scroll", show, { passive: true });

  return {
    node,
    reveal,
    /** @param {{asked: number, focus: number, strength: (index: number) => number}} now */
    draw(now) {
      const moved = now.asked !== asked;
      ({ asked, focus, strength } = now);
      layOut();
      if (moved && asked >= 0) reveal(asked);
      else show();
      if (asked >= 0) node.setAttribute("aria-activedescendant", `${prefix}-${asked}`);
      for (const line of drawn.values())
        for (const token of /** @type {HTMLCollectionOf<HTMLElement>} */ (line.children))
          paint(token, Number(token.dataset.token));
    },
  };
}

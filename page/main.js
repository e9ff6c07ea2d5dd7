// Start here: reads the runs of the page, keeps what is looked at, and lets each view draw it.
import { alignmentView } from "qkv/align.js";
import { readRun, reading } from "qkv/data.js";
import { el } from "qkv/dom.js";
import { headsView } from "qkv/heads.js";
import { matrixView } from "qkv/matrix.js";
import { questionView } from "qkv/question.js";
import { TEXTS } from "qkv/text.js";
import { weightView } from "qkv/weight.js";

/** @typedef {import("qkv/data.js").Run} Run */
/**
 * What is looked at. `word` asks through the head `at`; `focus` is the word of the key side that is isolated; `open` is the one
 * whose weight is open.
 * @typedef {{run: Run, word: number, at: [number, number], focus: number | null, open: number | null, log: boolean,
 *   language: string, say: import("qkv/text.js").Text}} State
 */
/** @typedef {(change: Partial<State>) => void} Change */
/** @typedef {{node: HTMLElement, draw: (state: State) => void}} View */

/** The first word that asks: a pronoun or the word named by --query, else the sentence's last real word. @param {Run} run */
function firstWord(run) {
  if (run.asked.length > 0) return run.asked[0];
  const words = run.query.words.slice(0, run.query.sentence);
  if (run.kind === "translate")
    return Math.max(
      0,
      words.findIndex((word) => word.kind === "word"),
    );
  return Math.max(
    0,
    words.map((word) => word.kind === "word" && word.pieces.length > 0).lastIndexOf(true),
  );
}

/** @param {Run} run @param {number} word @returns {[number, number]} */
function fittingHead(run, word) {
  return run.fitting[word]?.[0] ?? [run.layers.length - 1, 0];
}

/** @param {Run} run */
function opening(run) {
  const word = firstWord(run);
  return { run, word, at: run.open ?? fittingHead(run, word), focus: null, open: null };
}

function chosenLanguage() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("lang");
  if (asked === "en" || asked === "zh") return asked;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Draws the page for `runs` into the document. @param {Run[]} runs */
export function showRuns(runs) {
  const page = /** @type {HTMLElement} */ (document.getElementById("page"));
  const language = chosenLanguage();
  /** @type {State} */
  let state = { ...opening(runs[0]), log: false, language, say: TEXTS[language] };
  /** @type {View[]} */
  let views = [];
  let pinned = state.run.open !== null; // a head that the reader chose stays when another word asks

  /** @type {Change} */
  function change(wanted) {
    const before = state;
    state = { ...state, ...wanted };
    if (wanted.at) pinned = true;
    if (wanted.run && wanted.run !== before.run) {
      state = { ...state, ...opening(wanted.run) };
      pinned = false;
    } else if (wanted.word !== undefined && wanted.word !== before.word) {
      state.focus = wanted.focus ?? null;
      state.open = wanted.open ?? null;
      if (!pinned) state.at = fittingHead(state.run, state.word);
    }
    if (wanted.language) {
      state.say = TEXTS[state.language];
      history.replaceState(null, "", `#lang=${state.language}`);
    }
    if (wanted.language || state.run !== before.run) build();
    else for (const view of views) view.draw(state);
  }

  function build() {
    document.documentElement.lang = state.language === "zh" ? "zh-Hans" : "en";
    const { say, run } = state;
    views = [questionView(state, change), weightView(state)];
    if (run.kind === "translate") views.push(alignmentView(state, change));
    views.push(headsView(state, change), matrixView(state, change));
    const other = state.language === "zh" ? "en" : "zh";
    const tabs =
      runs.length > 1 &&
      el(
        "nav",
        { class: "runs", "aria-label": say.runs },
        runs.map((it, i) =>
          el(
            "button",
            {
              type: "button",
              "aria-pressed": String(it === run),
              onclick: () => change({ run: it }),
            },
            String(i + 1),
          ),
        ),
      );
    page.replaceChildren(
      el(
        "header",
        { class: "bar" },
        el(
          "span",
          { class: "mark", "aria-label": "qkv" },
          el("b", { class: "q" }, "q"),
          el("b", { class: "k" }, "k"),
          el("b", { class: "v" }, "v"),
        ),
        tabs,
        el(
          "button",
          {
            type: "button",
            class: "language",
            lang: other === "zh" ? "zh-Hans" : "en",
            "aria-label": say.languageLabel,
            onclick: () => {
              change({ language: other });
              /** @type {HTMLElement} */ (page.querySelector(".language")).focus();
            },
          },
          say.language,
        ),
      ),
      el(
        "main",
        {},
        views.map((view) => view.node),
      ),
      el("footer", {}, el("p", {}, say.keys), el("p", {}, say.foot(run.version, run.isa))),
    );
    for (const view of views) view.draw(state);
    document.title = `${run.query.words[state.word]?.text ?? ""} · qkv`;
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (state.open !== null) {
      const key = state.open;
      change({ open: null });
      /** @type {HTMLElement | null} */ (
        page.querySelector(`.ranking [data-key="${key}"]`) ?? page.querySelector(".word.asks")
      )?.focus();
    } else if (state.focus !== null) {
      change({ focus: null });
    }
  });
  const redraw = () => views.forEach((view) => view.draw(state));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", redraw);
  build();
  // For tests and for the curious, in the console.
  Object.assign(globalThis, { qkv: { runs, reading, state: () => state, change } });
}

const data = document.getElementById("runs");
if (data?.textContent) showRuns(JSON.parse(data.textContent).map(readRun));

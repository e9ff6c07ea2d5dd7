// Start here: reads the runs of the page, keeps what is looked at, and lets each view draw it.
import { alignmentView } from "qkv/align.js";
import { readRun } from "qkv/data.js";
import { el } from "qkv/dom.js";
import { chosenLanguage, frame, languageButton, letters } from "qkv/frame.js";
import { headsView } from "qkv/heads.js";
import { liveForm } from "qkv/live.js";
import { matrixView } from "qkv/matrix.js";
import { questionView } from "qkv/question.js";
import { TEXTS } from "qkv/text.js";
import { tourView } from "qkv/tour.js";
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

/** Draws the page; with `live` it asks the server for what is typed. @param {Run[]} first @param {boolean} live */
function start(first, live) {
  const { bar, slot, main, foot } = frame();
  const form = live ? liveForm(show) : null;
  let runs = first;
  let language = chosenLanguage();
  /** @type {State | null} */
  let state = null;
  /** @type {View[]} */
  let views = [];
  let pinned = false; // a head that the reader chose stays when another word asks

  /** @param {Run[]} wanted */
  function show(wanted) {
    if (wanted.length === 0) return;
    runs = wanted;
    openRun(runs[0]);
  }

  /** @param {Run} run */
  function openRun(run) {
    state = { log: false, ...state, ...opening(run), language, say: TEXTS[language] };
    pinned = run.open !== null;
    build();
  }

  /** @param {string} wanted */
  function speak(wanted) {
    language = wanted;
    history.replaceState(null, "", `#lang=${language}`);
    if (state) state = { ...state, language, say: TEXTS[language] };
    build();
    /** @type {HTMLElement | null} */ (bar.querySelector(".language"))?.focus();
  }

  /** @type {Change} */
  function change(wanted) {
    if (!state) return;
    const before = state;
    state = { ...state, ...wanted };
    if (wanted.at) pinned = true;
    if (state.word !== before.word) {
      state.focus = wanted.focus ?? null;
      state.open = wanted.open ?? null;
      if (!pinned) state.at = fittingHead(state.run, state.word);
    }
    draw();
  }

  function draw() {
    if (!state) return;
    for (const view of views) view.draw(state);
    document.title = `${state.run.query.words[state.word].text} · qkv`;
  }

  function drawBar() {
    const say = TEXTS[language];
    const tab = (/** @type {Run} */ run, /** @type {number} */ i) => {
      const pressed = String(run === state?.run);
      const attributes = { type: "button", "aria-pressed": pressed, onclick: () => openRun(run) };
      return el("button", attributes, String(i + 1));
    };
    const tabs =
      runs.length > 1 && el("nav", { class: "runs", "aria-label": say.runs }, runs.map(tab));
    bar.replaceChildren(letters(), tabs || "", languageButton(language, speak));
  }

  function build() {
    const say = TEXTS[language];
    document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
    drawBar();
    form?.draw(say);
    if (!state) return;
    const { run } = state;
    views = [questionView(state, change), weightView(state)];
    if (run.kind === "translate") views.push(alignmentView(state, change));
    views.push(tourView(state), headsView(state, change), matrixView(state, change));
    main.replaceChildren(...views.map((view) => view.node));
    foot.replaceChildren(el("p", {}, say.keys), el("p", {}, say.foot(run.version, run.isa)));
    draw();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !state) return;
    if (state.open !== null) {
      const key = state.open;
      change({ open: null });
      const answer = main.querySelector(`.ranking [data-key="${key}"]`);
      /** @type {HTMLElement | null} */ (answer ?? main.querySelector(".word.asks"))?.focus();
    } else if (state.focus !== null) {
      change({ focus: null });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
  build();
  if (form) {
    slot.append(form.node);
    form.fill(TEXTS[language].example);
    form.ask("look", TEXTS[language].example);
  } else {
    show(runs);
  }
  // For tests and for the curious, in the console.
  Object.assign(globalThis, { qkv: { runs: () => runs, state: () => state, change } });
}

const data = JSON.parse(document.getElementById("runs")?.textContent ?? "[]");
if (data.kind === "find") (await import("qkv/find.js")).startFind(data);
else if (data.kind === "watch") (await import("qkv/watch.js")).startWatch(data);
else start(data.live ? [] : data.map(readRun), Boolean(data.live));

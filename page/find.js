// The page of a finder's run: keeps who asks, through which layer and heads, and lets each view draw it.
import { readFinds, sharpestLayer, streamRun, weightsOf } from "qkv/find_data.js";
import { el } from "qkv/dom.js";
import { answerView } from "qkv/find_answer.js";
import { gridView, wordGridView } from "qkv/find_grid.js";
import { patchStream, rowName } from "qkv/find_names.js";
import { FIND_TEXTS } from "qkv/find_text.js";
import { chosenLanguage, frame, languageButton, letters } from "qkv/frame.js";
import { TEXTS } from "qkv/text.js";
import { weightView } from "qkv/weight.js";

/** @typedef {import("qkv/find_data.js").Find} Find */
/** @typedef {import("qkv/find_data.js").Asker} Asker */
/** @typedef {import("qkv/find_data.js").Stream} Stream */
/**
 * What is looked at. `head` is that of the patches read, `wordHead` that of the words; −1 is the mean. `focus` is a patch that is
 * pointed at, `open` the weight that is open.
 * @typedef {{find: Find, asker: Asker, from: Asker, layer: number, head: number, wordHead: number, focus: number | null,
 *   open: {stream: Stream, key: number} | null, view: "read" | "masks" | "plain", all: boolean, language: string,
 *   say: import("qkv/find_text.js").FindText, text: import("qkv/text.js").Text}} State
 * `from`: the query that asked before a patch did.
 */
/** @typedef {(change: Partial<State>) => void} Change */
/** @typedef {{node: HTMLElement, draw: (state: State) => void}} View */

/** The head whose weight opens: the chosen one, or of all that which gives the key the most. @param {State} state
 * @param {Stream} stream @param {number} key of the stream's words */
function openHead(state, stream, key) {
  const chosen = stream === "words" ? state.wordHead : stream === "queries" ? -1 : state.head;
  if (chosen >= 0) return chosen;
  const { find, layer, asker } = state;
  const pieces = stream === "words" ? find.prompt.words[key].pieces.map(([piece]) => piece) : [key];
  const shares = Array.from({ length: find.streams[stream][layer].heads }, (_, head) => {
    const { weights } = weightsOf(find, stream, layer, head, asker.row);
    return pieces.reduce((sum, piece) => sum + weights[piece], 0);
  });
  return shares.indexOf(Math.max(...shares));
}

/** One weight from the bottom up, of whichever stream: the view of sentences over the stream as a run. @param {State} first
 * @returns {View} */
function openView(first) {
  const streams = /** @type {Stream[]} */ (["encoder", "patches", "words", "queries"]);
  const text = { ...first.text, noMask: first.say.noMask, step3Text: first.say.step3Text };
  const views = streams.map((stream) => {
    const run = streamRun(first.find, stream, (of, row) => rowName(first, of, row));
    const state = { run, word: 0, at: [0, 0], focus: null, open: null, log: false };
    const as = (/** @type {any} */ more) => ({
      ...state,
      language: first.language,
      say: text,
      ...more,
    });
    return { stream, as, view: weightView(as({})) };
  });
  return {
    node: el(
      "div",
      {},
      views.map(({ view }) => view.node),
    ),
    draw(now) {
      for (const { stream, as, view } of views) {
        if (now.open?.stream !== stream) view.draw(as({}));
        else {
          const { key } = now.open;
          view.draw(
            as({ word: now.asker.row, at: [now.layer, openHead(now, stream, key)], open: key }),
          );
        }
      }
    },
  };
}

/** @param {Find} find */
function opening(find) {
  const asker = /** @type {Asker} */ ({
    kind: "query",
    row: find.objects.length ? find.objects[0].query + 1 : 0,
  });
  const layer = sharpestLayer(find, "patches", asker.row);
  return { find, asker, from: asker, layer, head: -1, wordHead: -1, focus: null, open: null };
}

/** @param {any} data */
export async function startFind(data) {
  const finds = await readFinds(data);
  const { bar, main, foot } = frame();
  let language = chosenLanguage();
  /** @type {State} */
  let state = {
    ...opening(finds[0]),
    view: "read",
    all: false,
    language,
    say: FIND_TEXTS[language],
    text: TEXTS[language],
  };
  /** @type {View[]} */
  let views = [];

  /** @type {Change} */
  function change(wanted) {
    const before = state;
    state = { ...state, ...wanted };
    if (wanted.asker) {
      const other = before.asker.kind !== wanted.asker.kind;
      state.open = wanted.open ?? null;
      if (wanted.asker.kind === "query") state.from = wanted.asker;
      if (other) {
        state.layer = sharpestLayer(state.find, patchStream(wanted.asker), wanted.asker.row);
        state.head = -1;
        build();
        return;
      }
    }
    draw();
  }

  function draw() {
    for (const view of views) view.draw(state);
    document.title = `${state.find.prompt.text} · qkv`;
  }

  /** @param {string} wanted */
  function speak(wanted) {
    language = wanted;
    history.replaceState(null, "", `#lang=${language}`);
    state = { ...state, language, say: FIND_TEXTS[language], text: TEXTS[language] };
    build();
    /** @type {HTMLElement | null} */ (bar.querySelector(".language"))?.focus();
  }

  function build() {
    document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
    const tab = (/** @type {Find} */ find) => {
      const pressed = String(find === state.find);
      const open = () => {
        state = { ...state, ...opening(find) };
        build();
      };
      return el(
        "button",
        { type: "button", "aria-pressed": pressed, onclick: open },
        find.prompt.text,
      );
    };
    const tabs =
      finds.length > 1 &&
      el("nav", { class: "runs", "aria-label": state.say.runs }, finds.map(tab));
    bar.replaceChildren(letters(), tabs || "", languageButton(language, speak));
    const focused = document.activeElement?.getAttribute("data-keep");
    views = [answerView(state, change), openView(state), gridView(state, change)];
    if (state.asker.kind === "query") views.push(wordGridView(state, change));
    main.replaceChildren(...views.map((view) => view.node));
    foot.replaceChildren(
      el("p", {}, state.say.keys),
      el("p", {}, state.text.foot(state.find.version, state.find.isa)),
    );
    draw();
    if (focused)
      /** @type {HTMLElement | null} */ (main.querySelector(`[data-keep="${focused}"]`))?.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (state.open !== null) {
      const { stream, key } = state.open;
      change({ open: null });
      const answer = main.querySelector(`.ranking [data-key="${stream} ${key}"]`);
      /** @type {HTMLElement | null} */ (answer ?? main.querySelector("canvas.picture"))?.focus();
    } else if (state.asker.kind === "patch") {
      change({ asker: state.from });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
  build();
  // For tests and for the curious, in the console.
  Object.assign(globalThis, { qkv: { runs: () => finds, state: () => state, change } });
}

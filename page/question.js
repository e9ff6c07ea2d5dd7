// The opening view: the sentence whose words ask, and what the picked word read.
import { pieceWeights, reading, rowOf, strongestPair } from "qkv/data.js";
import { arrowsMove, el } from "qkv/dom.js";
import { softmaxRow, weighted_sum_values } from "qkv/math.js";
import { strip } from "qkv/strips.js";
import { percent, roleName, wholePercent } from "qkv/text.js";

/** @typedef {import("qkv/main.js").State} State */
/** @typedef {import("qkv/main.js").Change} Change */
/** @typedef {import("qkv/data.js").Side} Side */

/** The role of a head that a word is asked through: coreference for a pronoun, else what it does best. @param {State} state */
function roleOf(state) {
  const roles = state.run.layers[state.at[0]].roles[state.at[1]];
  const pronoun = state.run.query.words[state.word].pronoun;
  return roles.find((it) => pronoun && it.role === "coreference") ?? roles[0];
}

/** "layer 3, head 0 · coreference: right 77%, by chance 8%". @param {State} state */
export function headLine(state) {
  const role = roleOf(state);
  const name = state.say.head(...state.at);
  if (state.run.kind === "find") return name;
  if (!role) return `${name} · ${state.say.unmeasured}`;
  return (
    `${name} · ${roleName(state.language, role.role)}${state.language === "zh" ? "：" : ": "}` +
    state.say.right(wholePercent(role.score), wholePercent(role.chance))
  );
}

/** Where the weights of a head come from, if not from the engine itself; what is computed here is held to its row statistics.
 * @param {State} state */
export function sourceLine(state) {
  const [l, head] = state.at;
  const layer = state.run.layers[l];
  if (layer.engine[head]) return null;
  pieceWeights(layer, head);
  const { recomputed, confirmed, unconfirmed } = state.say;
  const holds = layer.confirmed[head];
  return el(
    "p",
    { class: `source ${holds ? "holds" : "fails"}` },
    `${recomputed} · ${holds ? confirmed : unconfirmed}`,
  );
}

/** @param {Side} side */
const langOf = (side) => (side.language === "zh" ? "zh-Hans" : side.language);

/** @param {State} first @param {Change} change @returns {import("qkv/main.js").View} */
export function questionView(first, change) {
  const { run, say } = first;
  const title = el("h1", {});
  const answer = el("div", { class: "answer" });
  const through = el("div", { class: "through" });
  const announced = el("p", { class: "hidden", role: "status" });
  let drawn = ""; // what the ranking shows, so that hovering does not rebuild what is hovered

  /** @param {KeyboardEvent} event */
  function moveBetweenWords(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    const list = /** @type {HTMLElement[]} */ ([
      .../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("button:not(:disabled)"),
    ]);
    if (event.key === "ArrowDown") {
      event.preventDefault();
      /** @type {HTMLElement | null} */ (answer.querySelector(".ranking button"))?.focus();
    }
    if (step === undefined) return;
    event.preventDefault();
    const at = list.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = list[Math.max(0, Math.min(list.length - 1, at + step))];
    next.focus();
    next.click();
  }

  /** @param {Side} side @param {boolean} asks */
  function sentence(side, asks) {
    const words = side.words.map((word, i) => {
      const special = i >= side.sentence;
      const label = [
        el("span", { class: "text" }, word.text),
        el("span", { class: "letter", "aria-hidden": "true" }),
      ];
      const shared = {
        class: `word ${special ? "special" : word.kind}`,
        "data-word": i,
        dir: "auto",
      };
      const isolate = {
        onpointerenter: () => change({ focus: i }),
        onpointerleave: () => change({ focus: null }),
      };
      if (!asks) return el("span", { ...shared, ...isolate }, ...label);
      return el(
        "button",
        {
          ...shared,
          type: "button",
          disabled: word.pieces.length === 0,
          onclick: () => change({ word: i }),
          onpointerenter: () => run.self && change({ focus: i }),
          onpointerleave: () => run.self && change({ focus: null }),
        },
        ...label,
      );
    });
    const spaced = words.flatMap((node, i) =>
      side.words[i].space || i >= side.sentence ? [" ", node] : [node],
    );
    return el(
      "div",
      {
        class: `sentence ${asks ? "asking" : "read"}`,
        role: asks ? "toolbar" : "group",
        lang: langOf(side),
        dir: "auto",
        "aria-label": asks ? say.sentence : say.source,
        onkeydown: asks ? moveBetweenWords : undefined,
      },
      spaced,
    );
  }

  const asking = sentence(run.query, true);
  const read = run.self ? asking : sentence(run.key, false);
  const node = el(
    "section",
    { class: "question" },
    title,
    el("p", { class: "intro" }, run.kind === "translate" ? say.introTranslate : say.intro),
    run.self
      ? asking
      : [
          el("p", { class: "side" }, el("b", { class: "badge k" }, "K"), say.source),
          read,
          el("p", { class: "side" }, el("b", { class: "badge q" }, "Q"), say.translation),
          asking,
        ],
    through,
    answer,
    announced,
  );

  /** @param {State} state */
  function drawWords(state) {
    const { row, read: found } = reading(run, ...state.at, state.word);
    const strongest = found[0]?.index;
    for (const word of asking.querySelectorAll(".word")) {
      const asks = Number(word.getAttribute("data-word")) === state.word;
      word.classList.toggle("asks", asks);
      word.setAttribute("aria-pressed", String(asks));
      word.setAttribute("tabindex", asks ? "0" : "-1");
      /** @type {HTMLElement} */ (word.querySelector(".letter")).textContent = asks ? "Q" : "";
    }
    for (const word of /** @type {NodeListOf<HTMLElement>} */ (read.querySelectorAll(".word"))) {
      const i = Number(word.dataset.word);
      word.style.setProperty("--w", String(Math.min(1, row[i])));
      word.classList.toggle("answers", row[i] >= 0.0005);
      word.classList.toggle(
        "dim",
        state.focus !== null && state.focus !== i && !(run.self && i === state.word),
      );
      const letter = /** @type {HTMLElement} */ (word.querySelector(".letter"));
      if (i === strongest) letter.textContent += "K";
      else if (!run.self) letter.textContent = "";
      if (!run.self && i === strongest) letter.textContent = "K";
    }
  }

  /** @param {State} state */
  function drawAnswer(state) {
    const asks = run.query.words[state.word].text;
    const { read: found, specials, remainder } = reading(run, ...state.at, state.word);
    /** @param {{index: number, weight: number}} it @param {boolean} special */
    const item = (it, special) => {
      const word = run.key.words[it.index];
      const name = word.text;
      return el(
        "li",
        { class: special ? "mark-row" : "" },
        el(
          "button",
          {
            type: "button",
            "data-key": it.index,
            "aria-label": say.open(asks, name, percent(it.weight)),
            onclick: () => change({ open: it.index, focus: null }),
            onfocus: () => change({ focus: it.index }),
            onblur: () => change({ focus: null }),
            onpointerenter: () => change({ focus: it.index }),
            onpointerleave: () => change({ focus: null }),
          },
          el(
            "span",
            { class: "name", lang: langOf(run.key), dir: "auto" },
            name,
            special && el("small", {}, say.special(word.kind)),
          ),
          el("span", { class: "track" }, el("span", { class: "fill", "--w": it.weight })),
          el("span", { class: "percent" }, percent(it.weight)),
        ),
      );
    };
    const ranking = el(
      "ol",
      { class: "ranking", "aria-label": say.ranking(asks) },
      found.map((it) => item(it, false)),
      specials.map((it) => item(it, true)),
      el(
        "li",
        { class: "rest" },
        el("span", { class: "name" }, say.rest),
        el("span", { class: "track" }, el("span", { class: "fill", "--w": remainder })),
        el("span", { class: "percent" }, percent(remainder)),
      ),
    );
    arrowsMove(ranking, () => /** @type {HTMLElement} */ (asking.querySelector(".asks")).focus());
    const first = found[0] ?? specials[0];
    const name = run.key.words[first.index].text;
    const [layer, head] = state.at;
    const record = run.layers[layer];
    const pair = strongestPair(run, layer, head, state.word, first.index);
    const output = weighted_sum_values(record, head, softmaxRow(record, head, pair.query).weights);
    /** @param {string} letter @param {string} what @param {string} sentence @param {SVGElement | HTMLElement} picture */
    const card = (letter, what, sentence, picture) =>
      el(
        "div",
        { class: `card ${letter.toLowerCase()}` },
        el(
          "p",
          {},
          el("b", { class: `badge ${letter.toLowerCase()}` }, letter),
          el("strong", {}, what),
          el("span", {}, sentence),
        ),
        picture,
      );
    answer.replaceChildren(
      ranking,
      el(
        "div",
        { class: "cards" },
        card(
          "Q",
          say.asks,
          say.asksOf(asks),
          strip(
            rowOf(record.q, head, record.queries, record.dim_k, pair.query),
            "q",
            say.asksOf(asks),
          ),
        ),
        card(
          "K",
          say.answers,
          say.answersOf(name, percent(first.weight)),
          strip(
            rowOf(record.k, head, record.keys, record.dim_k, pair.key),
            "k",
            say.answersOf(name, percent(first.weight)),
          ),
        ),
        card("V", say.taken, say.takenOf, strip(output, "v", say.takenOf)),
      ),
    );
    const fitting = run.fitting[state.word] ?? [];
    through.replaceChildren(
      el("p", {}, say.through, " ", el("strong", {}, headLine(state))),
      fitting.length > 1 || !fitting.some(([l, h]) => l === layer && h === head)
        ? el(
            "p",
            { class: "chips" },
            fitting.map(([l, h]) =>
              el(
                "button",
                {
                  type: "button",
                  class: "chip",
                  "aria-pressed": String(l === layer && h === head),
                  onclick: () => change({ at: [l, h] }),
                },
                say.head(l, h),
              ),
            ),
          )
        : "",
      sourceLine(state) ?? "",
    );
    const [before, after] = run.kind === "translate" ? say.titleTranslate : say.title;
    title.replaceChildren(
      before,
      el("span", { class: "asked", lang: langOf(run.query), dir: "auto" }, asks),
      after,
    );
    announced.textContent = `${title.textContent} ${found
      .slice(0, 3)
      .map((it) => `${run.key.words[it.index].text} ${percent(it.weight)}`)
      .join(", ")}`;
  }

  return {
    node,
    draw(state) {
      drawWords(state);
      const shown = `${state.word} ${state.at}`;
      if (shown !== drawn) drawAnswer(state);
      drawn = shown;
      for (const button of answer.querySelectorAll(".ranking button"))
        button.classList.toggle("focus", Number(button.getAttribute("data-key")) === state.focus);
    },
  };
}

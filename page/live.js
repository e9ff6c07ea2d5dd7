// The form of `qkv serve`: a sentence goes to this machine's server, its run comes back.
import { readRun } from "qkv/data.js";
import { el } from "qkv/dom.js";

/** @typedef {import("qkv/data.js").Run} Run */
/** @typedef {import("qkv/text.js").Text} Text */

/** @param {(runs: Run[]) => void} show */
export function liveForm(show) {
  const label = el("label", { for: "text", class: "hidden" });
  const input = /** @type {HTMLInputElement} */ (
    el("input", { id: "text", type: "text", maxlength: 1200, autocomplete: "off", dir: "auto" })
  );
  const buttons = ["look", "translate"].map((what) =>
    el("button", { type: "submit", class: "chip", value: what }),
  );
  const trouble = el("p", { class: "trouble", role: "alert" });
  /** @type {Text} */
  let say;
  let waiting = new AbortController();

  /** @param {string} what "look" or "translate" @param {string} text */
  async function ask(what, text) {
    waiting.abort(); // only the last question is answered
    waiting = new AbortController();
    const { signal } = waiting;
    trouble.textContent = "";
    try {
      const response = await fetch(`${what}?text=${encodeURIComponent(text)}`, { signal });
      const answer = await response.json();
      if (signal.aborted) return;
      if (answer.error) trouble.textContent = answer.error;
      else show(answer.map(readRun));
    } catch {
      if (!signal.aborted) trouble.textContent = say.unreachable;
    }
  }

  const node = el(
    "form",
    {
      class: "live",
      role: "search",
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
        ask(button?.value ?? "look", input.value);
      },
    },
    label,
    input,
    buttons,
    trouble,
  );
  return {
    node,
    ask,
    /** @param {Text} now */
    draw(now) {
      say = now;
      label.textContent = say.type;
      input.placeholder = say.type;
      buttons[0].textContent = say.look;
      buttons[1].textContent = say.translate;
    },
    /** @param {string} text */
    fill(text) {
      input.value = text;
    },
  };
}

// What every page has: the bar with its language, the main part and the foot.
import { el } from "qkv/dom.js";
import { TEXTS } from "qkv/text.js";

/** From the address (#lang=zh), else the browser's. */
export function chosenLanguage() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("lang");
  if (asked === "en" || asked === "zh") return asked;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** The document's own parts, which stay while the runs change. */
export function frame() {
  const bar = el("header", { class: "bar" });
  const slot = el("div", { class: "slot" });
  const main = el("main", {});
  const foot = el("footer", {});
  document.getElementById("page")?.append(bar, slot, main, foot);
  return { bar, slot, main, foot };
}

export const letters = () =>
  el(
    "span",
    { class: "mark" },
    [..."qkv"].map((letter) => el("b", { class: letter }, letter)),
  );

/** @param {string} language in use @param {(language: string) => void} speak */
export function languageButton(language, speak) {
  const say = TEXTS[language];
  const other = language === "zh" ? "en" : "zh";
  const attributes = {
    type: "button",
    class: "language",
    lang: other === "zh" ? "zh-Hans" : "en",
    "aria-label": say.languageLabel,
    onclick: () => speak(other),
  };
  return el("button", attributes, say.language);
}

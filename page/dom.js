// Making elements. Text is only ever set as text, so nothing of a sentence can become markup.

/** @typedef {string | number | Node | null | undefined | false} Child */

/** @param {string} tag @param {Record<string, any>} [attributes] class, on… handlers, style custom properties ("--x"), or attributes
 * @param {...(Child | Child[])} children */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  node.append(...nodes(children));
  return node;
}

/** @param {string} tag @param {Record<string, any>} [attributes] @param {...(Child | Child[])} children */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  node.append(...nodes(children));
  return node;
}

/** @param {(Child | Child[])[]} children @returns {(Node | string)[]} */
function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** @param {HTMLElement | SVGElement} node @param {Record<string, any>} attributes */
function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, String(value));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** A canvas of the wanted size in CSS pixels, sharp on any screen. @param {HTMLCanvasElement} canvas @param {number} width
 * @param {number} height */
export function context(canvas, width, height) {
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

/** A colour of style.css, as it is in the theme in use. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A view of one opened thing, hidden while there is none. `shown` names it, or is "" for none; `fill` draws it when that changes.
 * @template S @param {HTMLElement} node @param {(state: S) => string} shown @param {(state: S) => void} fill */
export function openedView(node, shown, fill) {
  let drawn = "";
  return {
    node,
    /** @param {S} state */
    draw(state) {
      const now = shown(state);
      if (now === drawn) return;
      drawn = now;
      node.hidden = now === "";
      if (now) fill(state);
      else node.replaceChildren();
    },
  };
}

/** Brings what was just opened into sight, its heading in focus. @param {HTMLElement} node @param {HTMLElement} heading */
export function goTo(node, heading) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  heading.focus({ preventScroll: true });
  node.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

/** Up and down arrows go from button to button of a list; up from the first, `leave` is called.
 * @param {HTMLElement} list @param {() => void} leave */
export function arrowsMove(list, leave) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("button")]);
    const next = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + step;
    if (next < 0) leave();
    else buttons[Math.min(next, buttons.length - 1)].focus();
  });
}

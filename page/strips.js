// A vector drawn as bars around a zero line, one for each component.
import { svg } from "qkv/dom.js";

/** @param {ArrayLike<number>} values @param {string} kind class: "q", "k", "v" or "plain" @param {string} label
 * @param {number} [largest] the value that fills half the height; of several strips that are compared, the same */
export function strip(values, kind, label, largest = 0) {
  const count = values.length;
  const list = Array.from(values);
  const most = largest || Math.max(...list.map(Math.abs), 1e-30);
  let path = "";
  list.forEach((value, i) => {
    const height = Math.min(1, Math.abs(value) / most) * 19;
    const top = value >= 0 ? 20 - height : 20;
    path += `M${i * 10 + 1.5} ${top.toFixed(2)}h7v${Math.max(0.4, height).toFixed(2)}h-7z`;
  });
  return svg(
    "svg",
    {
      class: `strip ${kind}`,
      viewBox: `0 0 ${count * 10} 40`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    svg("line", { x1: 0, x2: count * 10, y1: 20, y2: 20 }),
    svg("path", { d: path }),
  );
}

/** The largest absolute value. @param {...ArrayLike<number>} lists */
export function largestOf(...lists) {
  let most = 1e-30;
  for (const list of lists)
    for (let i = 0; i < list.length; ++i) most = Math.max(most, Math.abs(list[i]));
  return most;
}

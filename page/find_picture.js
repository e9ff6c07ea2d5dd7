// The picture with what was read of it: patches the more veiled the less they were read, and outlines of the objects.
import { colour, context, el } from "qkv/dom.js";
import { patchBox, rangeOf } from "qkv/find_data.js";

/** @typedef {import("qkv/find_data.js").Find} Find */
/** @typedef {import("qkv/find_data.js").Found} Found */

/** 0 for the patch that was read least, 1 for the most. @param {ArrayLike<number>} weights @param {{least: number, most: number}} range
 * @param {number} patch */
const shade = (weights, range, patch) =>
  range.most > range.least
    ? Math.min(1, (weights[patch] - range.least) / (range.most - range.least))
    : 0;

/** @type {WeakMap<Find, HTMLCanvasElement>} */
const greys = new WeakMap();

/** The picture without its colours, so that orange is only what was read. @param {Find} find */
function grey(find) {
  const known = greys.get(find);
  if (known) return known;
  const canvas = document.createElement("canvas");
  const { width, height } = find.picture;
  canvas.width = width;
  canvas.height = height;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.drawImage(find.image, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [r, g, b] = pixels.data.subarray(i, i + 3);
    pixels.data.fill(0.2126 * r + 0.7152 * g + 0.0722 * b, i, i + 3); // Rec. 709
  }
  pen.putImageData(pixels, 0, 0);
  greys.set(find, canvas);
  return canvas;
}

/** What was read, orange over the picture in grey. @param {CanvasRenderingContext2D} pen @param {Find} find
 * @param {ArrayLike<number>} weights @param {number} itself the patch that asks, or −1 @param {number} width @param {number} height in
 * CSS pixels */
export function paintHeat(pen, find, weights, itself, width, height) {
  const zoom = width / find.picture.width;
  const range = rangeOf(find, weights, itself);
  pen.globalAlpha = 1;
  pen.fillStyle = colour("--paper");
  pen.fillRect(0, 0, width, height);
  pen.globalAlpha = 0.5;
  pen.drawImage(grey(find), 0, 0, width, height);
  pen.fillStyle = colour("--k-fill");
  find.inside.forEach((inside, patch) => {
    if (!inside) return;
    const { x, y, size } = patchBox(find, patch);
    // Whole pixels, so that neighbours neither overlap nor leave a gap.
    const [left, top] = [Math.round(x * zoom), Math.round(y * zoom)];
    const [right, bottom] = [Math.round((x + size) * zoom), Math.round((y + size) * zoom)];
    pen.globalAlpha = 0.85 * shade(weights, range, patch);
    pen.fillRect(left, top, right - left, bottom - top);
  });
  pen.globalAlpha = 1;
}

/** @type {WeakMap<Found, Path2D>} */
const outlines = new WeakMap();

/** The border of a mask, in pixels of the picture. @param {Find} find @param {Found} object */
export function outline(find, object) {
  const known = outlines.get(object);
  if (known) return known;
  const { width, height } = find.picture;
  const { mask } = object;
  const path = new Path2D();
  // Each stretch of equal steps between inside and outside is one line; the picture's own edge is no border.
  for (let y = 1; y < height; ++y)
    for (let x = 0; x < width; ++x) {
      const first = x;
      while (x < width && mask[y * width + x] !== mask[(y - 1) * width + x]) ++x;
      if (x > first) {
        path.moveTo(first, y);
        path.lineTo(x, y);
      }
    }
  for (let x = 1; x < width; ++x)
    for (let y = 0; y < height; ++y) {
      const first = y;
      while (y < height && mask[y * width + x] !== mask[y * width + x - 1]) ++y;
      if (y > first) {
        path.moveTo(x, first);
        path.lineTo(x, y);
      }
    }
  outlines.set(object, path);
  return path;
}

/** @type {WeakMap<Found, HTMLCanvasElement>} */
const fills = new WeakMap();

/** The mask as a picture, opaque where the object is. @param {Find} find @param {Found} object @param {string} ink */
function filled(find, object, ink) {
  const { width, height } = find.picture;
  const canvas = fills.get(object) ?? document.createElement("canvas");
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (!fills.has(object)) {
    canvas.width = width;
    canvas.height = height;
    const data = pen.createImageData(width, height);
    object.mask.forEach((it, i) => (data.data[i * 4 + 3] = it * 255));
    pen.putImageData(data, 0, 0);
    fills.set(object, canvas);
  }
  pen.globalCompositeOperation = "source-in"; // keeps the mask, changes its colour
  pen.fillStyle = ink;
  pen.fillRect(0, 0, width, height);
  return canvas;
}

/** The masks over the picture, the picked one strongest. @param {CanvasRenderingContext2D} pen @param {Find} find
 * @param {number} width in CSS pixels @param {Found | null} picked */
export function paintMasks(pen, find, width, picked) {
  const { width: w, height: h } = find.picture;
  const zoom = width / w;
  pen.drawImage(find.image, 0, 0, width, zoom * h);
  for (const object of find.objects) {
    pen.globalAlpha = picked === null || picked === object ? 0.55 : 0.25;
    pen.drawImage(filled(find, object, colour("--q-fill")), 0, 0, width, zoom * h);
  }
  pen.globalAlpha = 1;
}

/** A line that is seen on any ground: white below, coloured above. @param {CanvasRenderingContext2D} pen @param {number} zoom
 * @param {() => void} draw @param {string} ink @param {number} thick in CSS pixels */
export function stroke(pen, zoom, draw, ink, thick) {
  for (const [style, wide] of /** @type {[string, number][]} */ ([
    ["rgba(255, 255, 255, 0.9)", thick + 2.5],
    [ink, thick],
  ])) {
    pen.save();
    pen.scale(zoom, zoom);
    pen.lineWidth = wide / zoom;
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = style;
    draw();
    pen.restore();
  }
}

/** A piece of the picture in a small canvas. @param {Find} find @param {{x: number, y: number, width: number, height: number}} box
 * @param {number} size in CSS pixels */
export function thumbnail(find, box, size) {
  const canvas = /** @type {HTMLCanvasElement} */ (
    el("canvas", { class: "thumb", "aria-hidden": "true" })
  );
  const pen = context(canvas, size, size);
  const zoom = size / Math.max(box.width, box.height);
  const [width, height] = [box.width * zoom, box.height * zoom];
  pen.imageSmoothingQuality = "high";
  pen.drawImage(
    find.image,
    box.x,
    box.y,
    box.width,
    box.height,
    (size - width) / 2,
    (size - height) / 2,
    width,
    height,
  );
  return canvas;
}

/** A square around a mask, a little wider; the whole picture if the object is too small to have a pixel of it.
 * @param {Find} find @param {Found} object */
export function boxAround(find, object) {
  const { width, height } = find.picture;
  let [left, top, right, bottom] = [width, height, 0, 0];
  object.mask.forEach((it, i) => {
    if (!it) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
  });
  if (right <= left) return { x: 0, y: 0, width, height };
  const size = Math.min(width, height, Math.max(right - left, bottom - top) * 1.15);
  const place = (/** @type {number} */ middle, /** @type {number} */ most) =>
    Math.max(0, Math.min(most - size, middle - size / 2));
  return {
    x: place((left + right) / 2, width),
    y: place((top + bottom) / 2, height),
    width: size,
    height: size,
  };
}

// A browser without network, and pages made by the built command.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const QKV = join(process.env.QKV_BUILD ?? join(ROOT, "build", "release"), "bin", "qkv");
const BROWSER = process.env.QKV_CHROMIUM ?? "/usr/bin/chromium";
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

export const ENGLISH = "The cat sat on the mat because it was tired";
export const CHINESE = "那个红色的苹果看起来很好吃，我想吃掉它";
export const THIRTY =
  "In the early morning the old fisherman walked slowly down to the harbour with his dog because he " +
  "wanted to see whether the boats had come back before the storm";

export const qkv = (...args) => execFileSync(QKV, args, { encoding: "utf8" });

// Rooms for files, gone at the end.
export const folder = mkdtempSync(join(tmpdir(), "qkv-page-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
let count = 0;

/** The page that `qkv command text --html` writes: its path. */
export function makePage(command, text, ...args) {
  const path = join(folder, `${(count += 1)}.html`);
  qkv(command, text, "--html", path, ...args);
  return path;
}

export const read = (path) => readFileSync(path, "utf8");

/** A started Chromium; as root it has no sandbox to offer. */
export const start = () =>
  chromium.launch({
    executablePath: BROWSER,
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });

/** Opens a file or URL. Any request but the page itself, and any error in it, fails the test at `close`. */
export async function open(browser, path, options = {}) {
  const { language = "en", width = 1280, height = 900, local = "", init, ...more } = options;
  const context = await browser.newContext({
    viewport: { width, height },
    reducedMotion: "reduce",
    ...more,
  });
  if (init) await context.addInitScript(init);
  const page = await context.newPage();
  const wrong = [];
  const url = path.startsWith("http") ? path : pathToFileURL(path).href;
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (said) => said.type() === "error" && wrong.push(said.text()));
  page.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await context.route("**/*", (route) => {
    const wanted = route.request().url();
    if (wanted.split("#")[0] === url || (local && wanted.startsWith(local)))
      return route.continue();
    if (!wanted.startsWith("data:")) wrong.push(`asked for ${wanted}`);
    return wanted.startsWith("data:") ? route.continue() : route.abort();
  });
  await page.goto(`${url}#lang=${language}`);
  await page.waitForSelector("h1");
  return {
    page,
    async close() {
      await context.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** What axe finds wrong with a page as it is now; it was opened with bypassCSP, as a page of ours lets no script in. */
export async function violations(page) {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.addScriptTag({ path: AXE });
  return page.evaluate(async () => {
    const result = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return result.violations.map(
      (it) => `${it.id}: ${it.nodes.map((node) => node.html).slice(0, 3)}`,
    );
  });
}

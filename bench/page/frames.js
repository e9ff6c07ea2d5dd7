// How long a page of qkv.watch takes to its first view, and how smoothly it moves: frame times (requestAnimationFrame deltas) over
// scripted scrolls, in Chromium. The page is what tests/page/watched.py or `seen.save` wrote.
// usage: node bench/page/frames.js page.html [seconds of each scroll]
import { statSync } from "node:fs";
import { open, start } from "../../tests/page/helper.js";

const [path, seconds = "5"] = process.argv.slice(2);
const browser = await start();
const { page, close } = await open(browser, path, {
  init: () => {
    const look = () => {
      if (document.querySelector(".matrix")) globalThis.firstView ??= performance.now();
      if (document.querySelector(".ranking button")) globalThis.answered = performance.now();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  },
});
await page.waitForFunction(() => globalThis.answered && document.readyState === "complete");
const [first, answered] = await page.evaluate(() => [globalThis.firstView, globalThis.answered]);
console.log(
  `${(statSync(path).size / 1e6).toFixed(1)} MB; block map after ${first.toFixed(0)} ms, answers after ${answered.toFixed(0)} ms`,
);

/** Calls `step` in the page with 0 to 1, once a frame. */
async function measure(name, step) {
  const deltas = await page.evaluate(
    async ([body, milliseconds]) => {
      const move = new Function("share", body);
      const times = [];
      let begin = 0;
      await new Promise((done) => {
        const frame = (now) => {
          begin ||= now;
          times.push(now);
          if (now - begin > milliseconds) return done();
          move((now - begin) / milliseconds);
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
      });
      return times.slice(1).map((time, i) => time - times[i]);
    },
    [step, 1000 * Number(seconds)],
  );
  deltas.sort((a, b) => a - b);
  const at = (share) => deltas[Math.floor(share * (deltas.length - 1))].toFixed(1);
  const late = deltas.filter((it) => it > 1500 / 60).length;
  console.log(
    `${name}: ${deltas.length} frames, median ${at(0.5)} ms, 95% within ${at(0.95)} ms, longest ${at(1)} ms, ${late} late`,
  );
}

await measure("at rest", "");
await measure(
  "the page, top to bottom",
  "scrollTo(0, share * (document.body.scrollHeight - innerHeight))",
);
await page.evaluate(() => scrollTo(0, 0));
await measure(
  "the tokens, first to last",
  "const box = document.querySelector('.tokens'); box.scrollTop = share * (box.scrollHeight - box.clientHeight)",
);
await page.evaluate(() => document.querySelector(".map").scrollIntoView());
const pan = (pixels) =>
  `const [view] = qkv.views(), layer = qkv.runs()[0].layers[qkv.state().at[0]];
   view.map.look(share * layer.count_keys, share * layer.count_queries, ${pixels})`;
await measure("exact tiles along the diagonal, 8 pixels a weight", pan(8));
await measure("exact tiles along the diagonal, 2 pixels a weight", pan(2));
await page.evaluate(() => document.querySelector(".tokens").focus());
await measure(
  "another token asks in every frame",
  "const s = qkv.state(); qkv.change({ query: Math.max(0, s.query - 1) })",
);
await close();
await browser.close();

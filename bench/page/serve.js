// How long qkv serve takes to answer a typed sentence: alone, and under load from many at once; every answer must be the same.
// usage: node bench/page/serve.js [requests]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { CHINESE, ENGLISH, QKV } from "../../tests/page/helper.js";

const count = Number(process.argv[2] ?? 200);
const child = spawn(QKV, ["serve", "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
const [address] = await once(createInterface({ input: child.stdout }), "line");

/** @param {string} path @param {string} text @param {number} atOnce */
async function measure(path, text, atOnce) {
  const url = `${address}${path}?text=${encodeURIComponent(text)}`;
  const expected = await (await fetch(url)).text();
  const times = [];
  let left = count;
  let wrong = 0;
  const begin = performance.now();
  const worker = async () => {
    while (left-- > 0) {
      const asked = performance.now();
      const response = await fetch(url);
      wrong += response.status !== 200 || (await response.text()) !== expected;
      times.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const seconds = (performance.now() - begin) / 1000;
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.floor(share * (times.length - 1))].toFixed(1);
  console.log(
    `${path} "${text.slice(0, 12)}…" ${atOnce} at once: median ${at(0.5)} ms, 95% within ${at(0.95)} ms, ` +
      `longest ${at(1)} ms, ${(count / seconds).toFixed(0)} a second, ${wrong} wrong`,
  );
}

for (const atOnce of [1, 8, 32])
  for (const text of [ENGLISH, CHINESE]) await measure("look", text, atOnce);
await measure("translate", "The cat sits on the mat", 1);
await measure("translate", "The cat sits on the mat", 8);
child.kill("SIGTERM");
await once(child, "exit");

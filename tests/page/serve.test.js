// qkv serve: the page, live, for one machine.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { CHINESE, ENGLISH, open, QKV, qkv, start } from "./helper.js";

let browser;
let server;
let address;

async function serve(...more) {
  const child = spawn(QKV, ["serve", "--port", "0", ...more], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return { child, address: line };
}

before(async () => {
  browser = await start();
  ({ child: server, address } = await serve());
});
after(async () => {
  await browser?.close();
  server?.kill("SIGKILL");
});

const live = (options = {}) => open(browser, address, { local: address, ...options });
const url = (path, text) => `${address}${path}?text=${encodeURIComponent(text)}`;

test("type a sentence, press Enter, see it", async () => {
  const { page, close } = await live();
  await page.waitForSelector(".ranking");
  await page.fill("#text", CHINESE);
  await page.keyboard.press("Enter");
  await page.waitForFunction(
    () => document.querySelector("h1").textContent === "What did 它 read?",
  );
  assert.match(await page.textContent(".ranking li"), /^苹果/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  await page.click(".ranking button >> nth=0");
  assert.ok(await page.locator(".weight > .verdict.holds").isVisible());
  await page.click('.live button:has-text("Translate")');
  await page.waitForSelector(".alignment");
  await page.click(".language");
  assert.equal(await page.textContent('.live button[value="look"]'), "看一看");
  await close();
});

test("what cannot be read is said in words, and the page stays", async () => {
  const { page, close } = await live();
  await page.waitForSelector(".ranking");
  await page.fill("#text", "   ");
  page.removeAllListeners("console"); // the browser notes the status 422 as an error
  await page.keyboard.press("Enter");
  await page.waitForSelector(".trouble:not(:empty)");
  assert.match(await page.textContent(".trouble"), /the text is empty/);
  assert.ok(await page.locator(".ranking").isVisible());
  await page.context().close();
  await close().catch(() => {});
});

test("the numbers are those of qkv look", async () => {
  const [run] = await (await fetch(url("look", ENGLISH))).json();
  const report = JSON.parse(qkv("look", ENGLISH, "--json"));
  assert.deepEqual(
    run.query.words.slice(0, run.query.sentence).map((word) => word.text),
    report.words,
  );
  assert.deepEqual(run.fitting[report.asked[0].index][0], [
    report.asked[0].layer,
    report.asked[0].head,
  ]);
});

test("a sentence is answered within 100 ms", async () => {
  const times = [];
  for (let i = 0; i < 15; ++i) {
    const begin = performance.now();
    await (await fetch(url("look", ENGLISH))).text();
    times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  console.log(`look: median ${times[7].toFixed(1)} ms`);
  assert.ok(times[2] < 100, `${times}`); // the fastest of them: other programs share this machine
});

test("only its own paths, only its own name, no file", async () => {
  const status = (path, headers = {}) =>
    new Promise((resolve, reject) => {
      const request = http.get(new URL(path, address), { headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      request.on("error", reject);
    });
  assert.equal(await status("/"), 200);
  for (const path of ["/etc/passwd", "/..%2f..%2fetc/passwd", "/page/main.js", "/models/"])
    assert.equal(await status(path), 404, path);
  assert.equal(await status("/", { Host: "attacker.example" }), 403);
  assert.equal(await status("/", { Host: "attacker.example:80" }), 403);
  assert.equal(await status("/", { Host: "localhost:1234" }), 200);
});

test("wrong and hostile texts get an answer in JSON", async () => {
  const wrong = ["", "  ", "x".repeat(4001), "word ".repeat(790)];
  for (const text of wrong) {
    const response = await fetch(url("look", text));
    assert.equal(response.status, 422, text.slice(0, 20));
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.ok((await response.json()).error.length > 10);
  }
  assert.equal((await fetch(`${address}look?text=%ff%fe`)).status, 422);
  assert.equal((await fetch(`${address}look`)).status, 422);
  assert.equal((await fetch(url("translate", "Yes. ".repeat(9)))).status, 422);
  const response = await fetch(url("look", "</script><b>it</b>"));
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
});

test("many at once are all answered, with the same numbers", async () => {
  const alone = await (await fetch(url("look", ENGLISH))).text();
  const answers = await Promise.all(
    Array.from({ length: 40 }, async () => (await fetch(url("look", ENGLISH))).text()),
  );
  assert.ok(answers.every((answer) => answer === alone));
});

test("an answer that takes too long is an error, its computation stops, and others go on", async (t) => {
  const { child, address: hasty } = await serve("--timeout", "0.15");
  t.after(() => child.kill("SIGKILL"));
  const ask = (path, text) => fetch(`${hasty}${path}?text=${encodeURIComponent(text)}`);
  await ask("look", ENGLISH); // the first touches the weights
  const long = "the dog saw the cat and the bird and the horse and the cow ".repeat(30);
  const begin = performance.now();
  // on a fast machine the first may be in time, but not all of them
  const slow = await Promise.all(Array.from({ length: 16 }, () => ask("translate", long)));
  const late = slow.filter((response) => response.status !== 200);
  assert.ok(late.length > 0);
  for (const response of late) {
    assert.equal(response.status, 503);
    assert.match(
      (await response.json()).error,
      /^no answer within 0.15 seconds; expected a shorter/,
    );
  }
  const took = performance.now() - begin;
  console.log(`${late.length} of 16 long translations were late: ${took.toFixed(0)} ms`);
  let response;
  for (let i = 0; i < 20 && response?.status !== 200; ++i) response = await ask("look", "It is.");
  assert.equal(response.status, 200);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("who sends nothing is let go, and does not stop others", async () => {
  const { port } = new URL(address);
  const idle = Array.from({ length: 4 }, () => connect(Number(port), "127.0.0.1"));
  assert.equal((await fetch(url("look", ENGLISH))).status, 200);
  const begin = performance.now();
  await Promise.all(idle.map((socket) => once(socket.resume(), "close")));
  assert.ok(performance.now() - begin < 9000);
});

test("stops with status 0 when asked, and says when it cannot start", async () => {
  for (const signal of ["SIGINT", "SIGTERM"]) {
    const { child } = await serve();
    child.kill(signal);
    assert.deepEqual(await once(child, "exit"), [0, null]);
  }
  const { port } = new URL(address);
  const second = spawn(QKV, ["serve", "--port", port], { stdio: ["ignore", "ignore", "pipe"] });
  const [[said], [code]] = await Promise.all([once(second.stderr, "data"), once(second, "exit")]);
  assert.match(String(said), /^qkv: cannot listen on 127\.0\.0\.1:\d+; is the port in use\?/);
  assert.equal(code, 1);
});

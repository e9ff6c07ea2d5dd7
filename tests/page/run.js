// Runs the tests in Chromium, one file after another; writes JUnit XML to the path given.
// usage: node tests/page/run.js [results.xml [test.js ...]]
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [results, ...named] = process.argv.slice(2);
const files = named.length
  ? named
  : readdirSync(here)
      .filter((name) => name.endsWith(".test.js"))
      .map((name) => join(here, name));
const junit = results ? ["--test-reporter=junit", `--test-reporter-destination=${results}`] : [];
const spec = ["--test-reporter=spec", "--test-reporter-destination=stdout"];
const done = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", ...spec, ...junit, ...files],
  { stdio: "inherit" },
);
process.exit(done.status ?? 1);

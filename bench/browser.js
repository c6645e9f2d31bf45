// What the kernels of WebAssembly are worth beside the scalar ones, as node's CPU time per text, all exits read:
//   node --no-experimental-fetch bench/browser.js build-wasm/build/web MODEL.gguf TEXTS.tsv [COUNT]
"use strict";
const fs = require("fs");
const path = require("path");

const [folder, model, texts, count = "60"] = process.argv.slice(2);
const ROUNDS = 5;  // the first ones also compile; the least counts

function put(engine, bytes) {
  const at = engine._malloc(bytes.length + 1);
  engine.HEAPU8.set(bytes, at);
  engine.HEAPU8[at + bytes.length] = 0;
  return at;
}

function checked(engine, place) {
  const said = JSON.parse(engine.UTF8ToString(place));
  if (said.error) throw new Error(said.error);
  return said;
}

// Milliseconds per text, the least of the rounds.
function measure(engine, lines, rounds) {
  const times = [];
  for (let round = 0; round < rounds; ++round) {
    const before = process.cpuUsage();
    for (const line of lines) {
      const at = put(engine, line);
      checked(engine, engine._splitee_classify(at, line.length, 1));
      engine._free(at);
    }
    const used = process.cpuUsage(before);
    times.push((used.user + used.system) / 1000 / lines.length);
  }
  return Math.min(...times);
}

async function main() {
  const wasmBinary = fs.readFileSync(path.join(folder, "engine.wasm"));
  const engine = await require(path.resolve(folder, "engine.js"))({ wasmBinary });
  const lines = fs.readFileSync(texts, "utf8").split("\n").slice(1, 1 + Number(count))
    .map((line) => Buffer.from(line.split("\t")[0]));
  const bytes = fs.readFileSync(model);
  const found = {};
  for (const target of ["wasm-simd128", "scalar"]) {
    const at = put(engine, bytes);
    checked(engine, engine._splitee_open(put(engine, Buffer.from(model)), at, bytes.length, put(engine, Buffer.from(target))));
    engine._free(at);
    found[target] = measure(engine, lines, target === "scalar" ? 2 : ROUNDS);
    console.log(`${target}: ${found[target].toFixed(2)} ms a text`);
  }
  console.log(`ratio: ${(found.scalar / found["wasm-simd128"]).toFixed(1)}`);
}

main();

"use strict";
// The page's own part: what is typed and chosen goes to the engine (web/exports.cc), what it says is shown.

const $ = (id) => document.getElementById(id);
const LAMBDA = 0.1;  // of a layer, in the unit of a confidence; `splitee replay --lambda`
const LONGEST_TEXT = 100000;  // characters
const LARGEST_FILE = 512 * 1024 * 1024;
const FIRST_POLICIES = ["audited", "threshold", "splitee", "splitee-s", "final"];
const EXAMPLES = [
  "The plot is thin, and yet I would not have missed a minute of it.",
  "They couldn't have cared less.",
  "Two hours of my life that I will not get back.",
];

const state = {
  engine: null, info: null, reviews: [],
  next: 0,  // review to be run
  running: false,
  trace: "",  // name of the file that took the reviews' place
  asked: false,  // whether a replay is to come
};

// ---- the engine ----

const encoder = new TextEncoder();

// Calls `use` with the place of the bytes in the engine's memory, with a zero behind them.
function withBytes(bytes, use) {
  const at = state.engine._malloc(bytes.length + 1);
  if (at === 0) return { error: "the browser gives no more memory" };
  try {
    state.engine.HEAPU8.set(bytes, at);
    state.engine.HEAPU8[at + bytes.length] = 0;
    return use(at, bytes.length);
  } finally {
    state.engine._free(at);
  }
}
const withText = (text, use) => withBytes(encoder.encode(text), use);
const said = (place) => JSON.parse(state.engine.UTF8ToString(place));

const openModel = (name, bytes) => withText(name, (n) => withText("", (target) => withBytes(
  bytes, (at, size) => said(state.engine._splitee_open(n, at, size, target)))));
const classify = (text, alpha) => withText(text, (at, size) => said(state.engine._splitee_classify(at, size, alpha)));
const addToStream = (text, label) => withText(text, (at, size) => said(state.engine._splitee_stream_add(at, size, label)));
const loadStream = (name, bytes) => withText(name, (n) => withBytes(
  bytes, (at, size) => said(state.engine._splitee_stream_load(n, at, size))));
const replay = (settings) => withText(JSON.stringify(settings), (at, size) => said(state.engine._splitee_replay(at, size)));

// ---- small things ----

function show(id, message) {
  $(id).hidden = !message;
  $(id).textContent = message || "";
}
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
const percent = (share, digits = 1) => (100 * share).toFixed(digits) + " %";
const milliseconds = (us) => (us / 1000).toFixed(us < 10000 ? 2 : 0) + " ms";

function bytesOf(id) {
  const text = atob($(id).textContent);
  $(id).remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// ---- a text ----

function textProblem(text) {
  if (!text.trim()) return "Type a text first: there is nothing to run.";
  if (text.length <= LONGEST_TEXT) return "";
  return `The text has ${text.length} characters; this page takes up to ${LONGEST_TEXT}.`;
}

function runText() {
  const text = $("text").value;
  const alpha = Number($("alpha").value);
  const problem = textProblem(text);
  const result = problem ? { error: problem } : classify(text, alpha);
  show("text-problem", result.error);
  $("answer").textContent = $("where").textContent = "";
  $("exits").replaceChildren();
  if (!result.error) showText(result);
}

function showText(result) {
  const stop = result.exits.find((exit) => exit.layer === result.stop_layer);
  const last = result.exits[result.exits.length - 1];
  $("answer").textContent = `${stop.label}, ${percent(stop.confidence)} sure`;
  $("where").textContent = `It stops at layer ${stop.layer} of ${last.layer}, after ${milliseconds(stop.us)}; all ` +
    `layers took ${milliseconds(last.us)}. ${result.length} ${state.info.unit}.` +
    (result.full ? ` The text is longer than the network reads: what comes after ${state.info.max_length} ` +
      `${state.info.unit} was left out.` : "");
  for (const exit of result.exits) $("exits").append(exitBar(exit, stop.layer));
}

function exitBar(exit, stop) {
  const item = element("li", exit.layer === stop ? "stop" : exit.layer > stop ? "beyond" : "");
  item.dataset.layer = exit.layer;
  item.dataset.class = exit.class;
  item.dataset.confidence = exit.confidence;
  const track = element("span", "track"), fill = element("div", "fill");
  fill.style.width = percent(exit.confidence);
  track.append(fill);
  item.append(element("span", "", `layer ${exit.layer}`), element("span", "", exit.label), track,
    element("span", "number", `${percent(exit.confidence)}, ${milliseconds(exit.us)}`));
  return item;
}

// ---- a stream ----

function settings() {
  const policy = $("policy").value;
  return {
    policy, lambda: LAMBDA, seed: 0,
    alpha: Number($("sure").value),
    offload: $("server").checked ? Number($("offload").value) * LAMBDA : null,
    options: { "max-disagreement": Number($("limit").value) / 100 },
  };
}

function showSettings() {
  const policy = $("policy").value;
  $("alpha-value").textContent = Number($("alpha").value).toFixed(2);
  $("sure-value").textContent = Number($("sure").value).toFixed(2);
  $("offload-value").textContent = $("offload").value;
  $("limit-value").textContent = $("limit").value + " %";
  $("summary").textContent = $("policy").selectedOptions[0].title;
  $("limit").disabled = policy !== "audited";
  $("limit-note").textContent = policy === "audited" ? "" : `${policy} knows no such limit`;
  const fixed = policy === "audited" || policy === "final";
  $("sure").disabled = fixed;
  $("sure-note").textContent = fixed ? `${policy} does not ask for it` : "";
  $("offload").disabled = !$("server").checked;
}

// One replay for all changes until the next frame.
function decideSoon() {
  showSettings();
  if (state.asked) return;
  state.asked = true;
  setTimeout(() => {
    state.asked = false;
    decide();
  }, 0);
}

function decide() {
  if (state.next === 0 && !state.trace) return;
  const result = replay(settings());
  show("stream-problem", result.error);
  if (result.error) return;
  showFacts(result);
  drawLayers(result);
  drawCourse(result);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function showFacts(result) {
  const layers = mean(result.layers);
  const facts = [
    ["samples", "samples", result.samples, String(result.samples)],
    ["layers", "layers a sample", layers, layers.toFixed(2)],
    ["cost", "cost, in layers", result.cost, result.cost.toFixed(2)],
    ["saved", "cost saved", result.cost_reduction, percent(result.cost_reduction)],
    ["agreement", "agree with the last exit", 1 - result.disagreement, percent(1 - result.disagreement)],
    ["sent", "sent", result.offload_rate, percent(result.offload_rate)],
    ["audited", "run to the end to check", result.audit_rate, percent(result.audit_rate)],
  ];
  if (result.upper !== null) facts.push(["upper", "at most so many differ, at 95 %", result.upper, percent(result.upper)]);
  if (result.accuracy !== null) {
    facts.push(["accuracy", "right", result.accuracy, percent(result.accuracy)],
      ["final-accuracy", "right, last exit", result.final_accuracy, percent(result.final_accuracy)]);
  }
  $("facts").replaceChildren(...facts.map(([id, name, value, text]) => {
    const cell = element("div"), number = element("dd", "", text);
    number.id = "fact-" + id;
    number.dataset.value = value;
    cell.append(element("dt", "", name), number);
    return cell;
  }));
}

// ---- pictures ----

const WIDTH = 900, HEIGHT = 150, LEFT = 44, BOTTOM = 20;
const across = (t, samples) => LEFT + (WIDTH - LEFT) * t / samples;

function svg(label, inside, samples) {
  const ends = `<text x="${LEFT}" y="${HEIGHT - 4}">1</text>` +
    `<text x="${WIDTH}" y="${HEIGHT - 4}" text-anchor="end">sample ${samples}</text>` +
    `<line class="axis" x1="${LEFT}" x2="${WIDTH}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>`;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">${inside}${ends}</svg>`;
}

function drawLayers(result) {
  const samples = result.samples, most = Math.max(...result.layers, 1);
  const unit = (HEIGHT - BOTTOM - 14) / most, width = (WIDTH - LEFT) / samples;
  let inside = `<text x="0" y="20">${most} layers</text><text x="0" y="${HEIGHT - BOTTOM}">0</text>`;
  result.layers.forEach((layers, t) => {
    const x = across(t, samples).toFixed(2), height = Math.max(1.5, layers * unit);
    const route = result.routes[t] === "fallback" ? "final" : result.routes[t];
    inside += `<rect class="${route}" x="${x}" y="${(HEIGHT - BOTTOM - height).toFixed(2)}" ` +
      `width="${(width * (width > 4 ? 0.85 : 1)).toFixed(2)}" height="${height.toFixed(2)}"/>`;
    if (result.differs[t]) inside += `<circle class="differs" cx="${x}" cy="6" r="2.5"/>`;
  });
  $("layers").innerHTML = svg(`Layers run for each of ${samples} samples, ${mean(result.layers).toFixed(2)} in the mean`,
    inside, samples);
}

function drawCourse(result) {
  const samples = result.samples;
  let cost = 0, differing = 0;
  const saved = [], agreed = [];
  result.costs.forEach((value, t) => {
    cost += value;
    differing += result.differs[t] ? 1 : 0;
    saved.push(1 - cost / ((t + 1) * result.final_cost));
    agreed.push(1 - differing / (t + 1));
  });
  const least = Math.min(0, Math.floor(Math.min(...saved) * 4) / 4);
  const y = (share) => 10 + (HEIGHT - BOTTOM - 10) * (1 - share) / (1 - least);
  const line = (name, shares) => `<polyline class="${name}" points="` +
    shares.map((share, t) => `${across(t + 1, samples).toFixed(1)},${y(share).toFixed(1)}`).join(" ") + '"/>';
  const marks = `<text x="0" y="16">100 %</text><text x="0" y="${HEIGHT - BOTTOM}">${Math.round(100 * least)} %</text>`;
  $("course").innerHTML = svg(`Cost saved ${percent(result.cost_reduction)}, agreement ` +
    `${percent(1 - result.disagreement)} after ${samples} samples`, marks + line("saved", saved) + line("agreed", agreed), samples);
}

// ---- running the reviews ----

// Some at a time, so that the page stays usable.
function runSome() {
  if (!state.running) return;
  const until = performance.now() + 40;
  do {
    const [text, label] = state.reviews[state.next];
    const added = addToStream(text, label);
    if (added.error) return stopRunning(added.error);
    ++state.next;
  } while (state.next < state.reviews.length && performance.now() < until);
  showProgress();
  if (state.next % 8 === 0 || state.next === state.reviews.length) decide();
  if (state.next === state.reviews.length) return stopRunning("");
  setTimeout(runSome, 0);
}

function stopRunning(problem) {
  state.running = false;
  show("stream-problem", problem);
  showProgress();
  if (!problem) decide();
}

function showProgress() {
  const all = state.reviews.length;
  $("progress").value = state.trace ? 1 : state.next / all;
  $("done").textContent = state.trace || `${state.next} of ${all} reviews`;
  $("run").textContent = state.running ? "Pause" : state.trace || state.next === all || state.next === 0
    ? "Run the reviews" : "Go on";
}

function runOrPause() {
  state.running = !state.running;
  if (state.running && (state.trace || state.next >= state.reviews.length)) restart();
  showProgress();
  runSome();
}

function restart() {
  state.engine._splitee_stream_clear();
  state.next = 0;
  state.trace = "";
}

// ---- files ----

// The bytes of the file chosen, or null; what is wrong with it goes to `problem`.
async function chosen(input, problem) {
  const file = input.files[0];
  if (!file) return null;
  show(problem, "");
  if (file.size === 0) show(problem, `${file.name} is empty.`);
  else if (file.size > LARGEST_FILE) show(problem, `${file.name} is larger than ${LARGEST_FILE >> 20} MiB.`);
  else {
    try {
      return { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) };
    } catch (error) {
      show(problem, `${file.name} cannot be read: ${error.message}`);
    }
  }
  input.value = "";
  return null;
}

async function takeModel() {
  const file = await chosen($("own-model"), "problem");
  if (!file) return;
  const info = openModel(file.name, file.bytes);
  $("own-model").value = "";
  if (info.error) return show("problem", `${info.error} - the network before it is still in use.`);
  state.running = false;
  restart();
  showModel(file.name, info);
  runText();
  showProgress();
}

async function takeTrace() {
  const file = await chosen($("own-trace"), "problem");
  if (!file) return;
  const loaded = loadStream(file.name, file.bytes);
  $("own-trace").value = "";
  if (loaded.error) return show("problem", `${loaded.error} - the stream before it is still in use.`);
  state.running = false;
  state.next = 0;
  state.trace = `${file.name}: ${loaded.samples} samples, ${loaded.exits} exits`;
  showProgress();
  decide();
}

// ---- start ----

function showModel(name, info) {
  state.info = info;
  $("what").textContent = `${name}: ${info.layers} layers, ${info.exit_layers.length} exits (${info.labels.join(", ")}), ` +
    `weights ${info.dtype}, kernels ${info.target}, run by this browser alone`;
  for (const id of ["alpha", "sure"]) {
    $(id).value = info.alpha > 0 ? info.alpha : 0.9;
    $(id).disabled = false;
  }
  showSettings();
}

function fillPolicies() {
  const { policies } = said(state.engine._splitee_policies());
  const others = element("optgroup");
  others.label = "others";
  for (const policy of policies) {
    const option = element("option", "", policy.name);
    option.value = policy.name;
    option.title = policy.summary;
    (FIRST_POLICIES.includes(policy.name) ? $("policy") : others).append(option);
  }
  $("policy").append(others);
  for (const name of [...FIRST_POLICIES].reverse()) $("policy").prepend($("policy").querySelector(`[value="${name}"]`));
  $("policy").value = FIRST_POLICIES[0];
}

function fillExamples() {
  EXAMPLES.forEach((text, i) => {
    const button = element("button", "", `Example ${i + 1}`);
    button.title = text;
    button.onclick = () => {
      $("text").value = text;
      runText();
    };
    $("examples").append(button);
  });
}

function listen() {
  $("classify").onclick = runText;
  $("text").onkeydown = (event) => {
    if (event.key === "Enter" && event.ctrlKey) runText();
  };
  $("alpha").oninput = () => {
    showSettings();
    runText();
  };
  for (const id of ["policy", "offload", "limit", "sure", "server"]) $(id).oninput = decideSoon;
  $("run").onclick = runOrPause;
  $("own-model").onchange = takeModel;
  $("own-trace").onchange = takeTrace;
}

async function start() {
  state.engine = await spliteeEngine({ wasmBinary: bytesOf("wasm-data") });
  const lines = new TextDecoder().decode(bytesOf("reviews-data")).trim().split("\n").slice(1);
  state.reviews = lines.map((line) => line.split("\t")).map(([text, label]) => [text, Number(label)]);
  fillPolicies();
  fillExamples();
  const info = openModel("small.gguf", bytesOf("model-data"));
  if (info.error) throw new Error(info.error);
  showModel("small.gguf", info);
  listen();
  $("classify").disabled = $("run").disabled = false;
  classify(EXAMPLES[0], 1);  // the first text of all waits for code to be compiled
  runText();
  showProgress();
}

start().catch((error) => {
  $("what").textContent = "";
  show("problem", `The engine could not be started: ${error.message || error}. This page needs a browser with ` +
    "WebAssembly, its 128-bit vectors and its exceptions (2021 or later).");
});

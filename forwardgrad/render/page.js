"use strict";
// What is shown is a choice (rule, rule beside, parameter, measure, step), kept in the address; everything is drawn from it.
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const choice = { rule: 0, beside: -1, parameter: 0, measure: "trace", t: 0 };
const last = data.steps.length - 1;

function numbers(series) {  // little-endian float32 or 16 bits, times a scale
  if (!series) return null;
  if (series.values) return series.values;
  const bytes = Uint8Array.from(atob(series.bytes), c => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  const size = series.wide ? 4 : 2;
  series.values = Float64Array.from({ length: bytes.length / size }, (_, i) =>
    series.scale * (series.wide ? view.getFloat32(4 * i, true) : view.getUint16(2 * i, true)));
  return series.values;
}
const short = x => !Number.isFinite(x) ? (Number.isNaN(x) ? "not a number" : "infinite") : x === 0 ? "0" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e4 ? String(Number(x.toPrecision(3))) : x.toExponential(2);
const largest = arrays => arrays.reduce((most, a) => a ? a.reduce((m, x) => Number.isFinite(x) ? Math.max(m, x) : m, most) : most, 0);
const part = (x, most, of) => Number.isFinite(x) && most > 0 ? of * Math.sqrt(x / most) : x > 0 ? of : 0;  // of the largest, by roots
const sizes = (rule, kind, index) => {
  const found = data.rules[rule].parameters[choice.parameter];
  const row = found && found[kind][index];
  return row ? numbers(row[choice.measure] || (kind === "edges" ? null : undefined)) : null;
};
const shown = () => choice.beside < 0 ? [choice.rule] : [choice.rule, choice.beside];
const differ = (a, b) => Number.isNaN(a) !== Number.isNaN(b) || a !== null && b !== null && Math.abs(a - b) > 0.01 * Math.max(Math.abs(a), Math.abs(b), 1e-12) || (a === null) !== (b === null);

function make(name, attributes = {}, text = "", space = null) {
  const element = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

function fill(select, names, first = 0) {
  select.replaceChildren(...names.map((name, i) => make("option", { value: i + first }, name)));
}

// Pictures: the same drawing once for each rule that is shown.
let pictures = [];
function drawPictures() {
  pictures = shown().map((rule, place) => {
    const figure = make("figure"), caption = make("figcaption", {}, data.rules[rule].name);
    caption.append(make("span"));
    const picture = at("picture").content.querySelector("svg").cloneNode(true);
    picture.setAttribute("role", "img");
    picture.removeAttribute("width"); picture.removeAttribute("height");
    for (const title of picture.querySelectorAll("title")) title.remove();
    const nodes = [], edges = [];
    for (const element of picture.querySelectorAll("[id]")) {
      const [, kind, index] = /^([ne])(\d+)$/.exec(element.id) || [];
      if (kind) (kind === "n" ? nodes : edges)[Number(index)] = element;
      element.id = `p${place}_${element.id}`;
    }
    figure.append(caption, picture);
    return { rule, figure, caption, picture, nodes, edges, labels: [] };
  });
  const box = pictures[0].picture.viewBox.baseVal;
  at("pictures").classList.toggle("wide", box.width > 1.5 * box.height);
  at("pictures").replaceChildren(...pictures.map(p => p.figure));
  for (const picture of pictures) {
    picture.nodes.forEach((element, index) => {
      const box = element.getBBox(), label = make("text", { class: "size", x: box.x + box.width / 2, y: box.y + box.height + 10 }, "", SVG);
      element.parentNode.append(label);
      picture.labels[index] = label;
    });
  }
}

function paintPictures() {
  const t = choice.t;
  for (const { rule, caption, picture, nodes, edges, labels } of pictures) {
    const other = shown().find(r => r !== rule);
    const ofNodes = nodes.map((_, i) => sizes(rule, "nodes", i)), ofEdges = edges.map((_, i) => sizes(rule, "edges", i));
    const mostNodes = largest(ofNodes), mostEdges = largest(ofEdges), found = data.rules[rule].parameters[choice.parameter];
    nodes.forEach((element, i) => {
      const own = ofNodes[i], there = other === undefined ? null : sizes(other, "nodes", i);
      const different = other !== undefined && differ(own && own[t], there && there[t]);
      element.classList.toggle("carries", own !== null);
      element.classList.toggle("differs", different);
      if (own) element.style.setProperty("--level", part(own[t], mostNodes, 0.6).toFixed(3));
      const mark = data.biased[choice.parameter] === i ? "▸ " : "";
      labels[i].textContent = mark + (own ? (different ? "≠ " : "") + short(own[t]) : different ? "≠ none" : "");
    });
    edges.forEach((element, i) => {
      const own = ofEdges[i], kept = Boolean(found && found.edges[i]);
      element.classList.toggle("carries", kept);
      element.classList.toggle("enters", data.entries[choice.parameter].includes(i));
      element.classList.toggle("cut", Boolean(found) && found.cuts.includes(i));
      element.style.setProperty("--width", own ? (0.8 + part(own[t], mostEdges, 5)).toFixed(2) : "1");
    });
    const about = data.rules[rule].parameters[choice.parameter];
    caption.querySelector("span").textContent = about ? ` — ${about.verdict}` : " — leaves this parameter untrained";
    picture.setAttribute("aria-label", `${data.rules[rule].name}: ${at("measure").selectedOptions[0].text} of ${data.parameters[choice.parameter]} at step ${data.steps[t]}; the table below says the same`);
  }
}

function paintTable() {
  const t = choice.t, rules = shown(), names = rules.map((rule, i) => data.rules[rule].name.length > 24 ? "AB"[i] : data.rules[rule].name), head = make("tr"), body = make("tbody"), parts = ["trace", "signal", "product"];
  head.append(make("th", { scope: "col" }, "node or edge"));
  for (const name of names) for (const part of parts) head.append(make("th", { scope: "col" }, `${rules.length > 1 ? name + ": " : ""}${part === "product" ? "gradient" : part}`));
  for (const kind of ["nodes", "edges"]) data[kind].forEach((name, i) => {
    const found = rules.map(rule => { const p = data.rules[rule].parameters[choice.parameter]; return p && p[kind][i]; });
    if (!found.some(Boolean)) return;
    const row = make("tr"), values = found.map(f => parts.map(part => f && f[part] ? numbers(f[part])[t] : null));
    row.append(make("th", { scope: "row", title: name }, name));
    if (rules.length > 1 && values[0].some((value, j) => differ(value, values[1][j]))) row.classList.add("differs");
    for (const value of values.flat()) row.append(make("td", {}, value === null ? "–" : short(value)));
    body.append(row);
  });
  const headed = make("thead");
  headed.append(head);
  at("numbers").replaceChildren(make("caption", {}, `${data.parameters[choice.parameter]}, step ${data.steps[t]}: loss ${short(numbers(data.loss)[t])}` + rules.map((rule, i) => names[i].length === 1 && data.rules[rule].name.length > 1 ? `; ${names[i]} is ${data.rules[rule].name}` : "").join("")), headed, body);
}

// Small plots over time: one a node, and of the whole gradient.
let cursors = [];
function plot(title, series) {
  const figure = make("figure"), most = largest(series), width = Math.max(last, 1);
  const low = -largest(series.map(a => a && a.map(x => -x))), high = most > low ? most : low + 1;
  const svg = make("svg", { viewBox: `0 0 ${width} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: at most ${short(most)}` }, "", SVG);
  series.forEach((array, place) => {
    if (!array) return;
    const points = Array.from(array, (x, i) => Number.isFinite(x) ? `${i},${(98 - 96 * (x - low) / (high - low)).toFixed(2)}` : "");
    for (const run of points.join(" ").split(/ {2,}/)) {  // what is no number is a gap
      if (run.trim()) svg.append(make("polyline", { class: place ? "second" : "first", points: run.trim() }, "", SVG));
    }
  });
  const cursor = make("line", { class: "cursor", y1: 0, y2: 100 }, "", SVG);
  cursors.push(cursor);
  svg.append(cursor);
  svg.addEventListener("click", event => {
    const box = svg.getBoundingClientRect();
    choose({ t: Math.round(width * (event.clientX - box.left) / box.width) });
  });
  figure.append(make("figcaption", {}, `${title} (largest ${short(most)})`), svg);
  return figure;
}

function drawPlots() {
  cursors = [];
  const rules = shown(), plots = [plot("loss", [numbers(data.loss)])], of = rules.map(r => data.rules[r].parameters[choice.parameter]);
  plots.push(plot("gradient of the step's loss", of.map(p => p ? numbers(p.gradient) : null)));
  if (rules.length > 1 && of[0] && of[0].cosines && of[0].cosines[choice.beside]) plots.push(plot("cosine of the two gradients", [numbers(of[0].cosines[choice.beside])]));
  data.nodes.forEach((name, i) => {
    const series = rules.map(rule => sizes(rule, "nodes", i));
    if (series.some(Boolean)) plots.push(plot(name, series));
  });
  at("plots").replaceChildren(...plots);
  const equations = rules.map(rule => {
    const found = data.rules[rule].parameters[choice.parameter], block = make("div");
    block.append(make("h3", {}, data.rules[rule].name), make("pre", {}, found ? found.equation : "untrained"));
    return block;
  });
  at("equations").replaceChildren(...equations);
}

function paint() {
  const t = choice.t;
  at("step").value = t;
  at("step").setAttribute("aria-valuetext", `step ${data.steps[t]}, the last is ${data.total - 1}`);
  at("now").textContent = `${data.steps[t]} of 0–${data.total - 1}`;
  for (const cursor of cursors) { cursor.setAttribute("x1", t); cursor.setAttribute("x2", t); }
  paintPictures();
  paintTable();
}

function draw() {
  at("rule").value = choice.rule; at("beside").value = choice.beside;
  at("parameter").value = choice.parameter; at("measure").value = choice.measure;
  drawPictures();
  drawPlots();
  paint();
}

// The choice, and the address.
let settled = 0;
function choose(change, written = true) {
  const redraw = Object.keys(change).some(key => key !== "t" && change[key] !== choice[key]);
  Object.assign(choice, change);
  choice.t = Math.max(0, Math.min(last, choice.t));
  if (choice.beside === choice.rule) choice.beside = -1;
  if (redraw) draw(); else paint();
  if (!written) return;
  const words = new URLSearchParams({ t: data.steps[choice.t], rule: data.rules[choice.rule].name, param: data.parameters[choice.parameter], size: choice.measure });
  if (choice.beside >= 0) words.set("beside", data.rules[choice.beside].name);
  try { history.replaceState(null, "", "#" + words); } catch { /* a page inside another has no address */ }
  clearTimeout(settled);
  settled = setTimeout(() => { at("said").textContent = `Step ${data.steps[choice.t]}`; }, 400);
}

function read() {
  const words = new URLSearchParams(location.hash.slice(1)), change = {}, names = data.rules.map(rule => rule.name);
  const step = Number(words.get("t"));
  if (words.has("t") && Number.isFinite(step)) {  // the nearest step that was kept
    change.t = data.steps.reduce((best, s, i) => Math.abs(s - step) < Math.abs(data.steps[best] - step) ? i : best, 0);
  }
  if (names.includes(words.get("rule"))) change.rule = names.indexOf(words.get("rule"));
  change.beside = names.indexOf(words.get("beside"));
  if (data.parameters.includes(words.get("param"))) change.parameter = data.parameters.indexOf(words.get("param"));
  if (["trace", "signal", "product"].includes(words.get("size"))) change.measure = words.get("size");
  return change;
}

let playing = 0;
function play(on) {
  clearInterval(playing);
  playing = 0;
  if (on && choice.t === last) choose({ t: 0 });
  if (on) playing = setInterval(() => choice.t < last ? choose({ t: choice.t + 1 }) : play(false), 120);
  at("play").textContent = on ? "Pause" : "Play";
  at("play").setAttribute("aria-pressed", String(Boolean(on)));
}

fill(at("rule"), data.rules.map(rule => rule.name));
fill(at("beside"), ["nothing", ...data.rules.map(rule => rule.name)], -1);
fill(at("parameter"), data.parameters);
at("step").max = last;
for (const id of ["rule", "beside", "parameter"]) at(id).addEventListener("change", event => choose({ [id]: Number(event.target.value) }));
at("measure").addEventListener("change", event => choose({ measure: event.target.value }));
at("step").addEventListener("input", event => choose({ t: Number(event.target.value) }));
at("play").addEventListener("click", () => play(!playing));
at("controls").addEventListener("submit", event => event.preventDefault());
addEventListener("hashchange", () => choose(read(), false));
addEventListener("keydown", event => {
  const where = event.target, slider = where === at("step");
  if (event.ctrlKey || event.metaKey || event.altKey || where.tagName === "SELECT") return;
  if (event.key === "p" || (event.key === " " && slider)) { play(!playing); event.preventDefault(); return; }
  if (!slider && where !== document.body && where !== at("play")) return;  // what can be scrolled is scrolled
  const move = { ArrowLeft: -1, ArrowRight: 1, ...(slider ? { PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity } : {}) }[event.key];
  if (move === undefined) return;
  choose({ t: choice.t + move });
  event.preventDefault();
});
Object.assign(choice, read());
choice.t = Math.max(0, Math.min(last, choice.t));
if (choice.beside === choice.rule) choice.beside = -1;
draw();
document.documentElement.dataset.ready = "yes";

// What is shown is a choice (rule, rule beside, parameter, measure, step), kept in the address; everything is drawn from it.
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const choice = { rule: 0, beside: data.rules.length > 1 ? 1 : -1, parameter: 0, measure: "trace", t: 0 };
const last = data.steps.length - 1;

function bytes(text) { return Uint8Array.from(atob(text), c => c.charCodeAt(0)); }
function numbers(series) {  // little-endian float32 or 16 bits, times a scale
  if (!series) return null;
  if (series.values) return series.values;
  const raw = bytes(series.bytes), view = new DataView(raw.buffer), size = series.wide ? 4 : 2;
  series.values = Float64Array.from({ length: raw.length / size }, (_, i) =>
    series.scale * (series.wide ? view.getFloat32(4 * i, true) : view.getUint16(2 * i, true)));
  return series.values;
}
const short = x => !Number.isFinite(x) ? (Number.isNaN(x) ? "not a number" : "infinite") : x === 0 ? "0" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e4 ? String(Number(x.toPrecision(3))) : x.toExponential(2);
const largest = arrays => arrays.reduce((most, a) => a ? a.reduce((m, x) => Number.isFinite(x) ? Math.max(m, x) : m, most) : most, 0);
const part = (x, most) => Number.isFinite(x) && most > 0 ? Math.sqrt(Math.max(x, 0) / most) : x > 0 ? 1 : 0;  // of the largest, by roots
const of = rule => data.rules[rule].parameters[choice.parameter];
const sizes = (rule, kind, index) => {
  const found = of(rule), row = found && found[kind][index];
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
const draw2d = (name, attributes, text) => make(name, attributes, text, SVG);

function fill(select, names, first = 0) {
  select.replaceChildren(...names.map((name, i) => make("option", { value: i + first }, name)));
}

// Pictures: the same drawing once for each rule that is shown, seen through one window.
let pictures = [], view = null, whole = null;
function mark(element) {  // a bar where credit is cut, and a dot where a parameter enters: at either end of an edge's line
  const line = element.querySelector("path"), tip = element.querySelector("polygon");
  if (!line) return;
  const length = line.getTotalLength(), ends = [line.getPointAtLength(0), line.getPointAtLength(length)];
  const box = tip ? tip.getBBox() : null, middle = box ? { x: box.x + box.width / 2, y: box.y + box.height / 2 } : null;
  const far = p => Math.hypot(p.x - middle.x, p.y - middle.y), flipped = middle && far(ends[0]) < far(ends[1]);
  const [root, end] = flipped ? [ends[1], ends[0]] : ends;
  element.append(draw2d("circle", { cx: root.x, cy: root.y, r: 3.5 }));
  if (!middle) return;
  const dx = middle.x - end.x, dy = middle.y - end.y, scale = 6 / (Math.hypot(dx, dy) || 1), x = end.x + 1.8 * dx, y = end.y + 1.8 * dy;
  element.append(draw2d("path", { class: "bar", d: `M${x - dy * scale} ${y + dx * scale}L${x + dy * scale} ${y - dx * scale}M${end.x} ${end.y}L${x} ${y}` }));
}

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
      const [, kind, index] = /^([ne])(\d+)(?:_r\d+)?$/.exec(element.id) || [];
      if (kind === "n") nodes[Number(index)] = element;
      if (kind === "e") (edges[Number(index)] ||= []).push(element);
      element.id = `p${place}_${element.id}`;
    }
    figure.append(caption, picture);
    return { rule, figure, caption, picture, nodes, edges, labels: [] };
  });
  const box = pictures[0].picture.viewBox.baseVal;
  whole = { x: box.x, y: box.y, w: box.width, h: box.height };
  at("pictures").classList.toggle("wide", box.width > 1.5 * box.height);
  at("pictures").replaceChildren(...pictures.map(p => p.figure));
  for (const picture of pictures) {
    picture.edges.flat().forEach(element => { element.setAttribute("class", "edge"); mark(element); });
    picture.nodes.forEach((element, index) => {
      const box = element.getBBox(), label = draw2d("text", { class: "size", x: box.x + box.width / 2, y: box.y + box.height - 8 });
      element.append(draw2d("rect", { class: "second-outline", x: box.x - 4, y: box.y - 4, width: box.width + 8, height: box.height + 8 }));
      element.append(draw2d("rect", { class: "store", x: box.x + box.width / 2 - 5.5, y: box.y + box.height - 4.5, width: 11, height: 11 }), label);
      element.dataset.of = [...element.classList].filter(word => word === "state" || word === "bare").join(" ");
      picture.labels[index] = label;
    });
    hold(picture.picture);
  }
  look(view || readable());
}

function readable() {  // all of it, or as much as can be read of where the parameter enters
  const width = pictures[0].picture.clientWidth, w = width / 0.75;
  if (width / whole.w >= 0.5) return { ...whole };
  const entry = [...data.entries[choice.parameter].map(i => pictures[0].edges[i][0]), pictures[0].nodes[data.biased[choice.parameter]]].find(Boolean), box = entry && entry.getBBox();
  const middle = box ? box.x + box.width / 2 : whole.x + w / 2;
  return { x: Math.min(Math.max(middle - w / 2, whole.x), whole.x + whole.w - w), y: whole.y, w, h: whole.h };
}
function look(next) {
  view = next;
  for (const { picture } of pictures) {
    picture.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
    // Two pictures on one screen, as long as they can be read.
    const room = Math.max(260, innerWidth > 640 && pictures.length > 1 ? Math.max(innerHeight * 0.43, 0.75 * whole.h) : innerHeight * 0.7);
    picture.style.height = `${Math.min(picture.clientWidth * view.h / view.w, room)}px`;
  }
}
function zoom(by, x = view.x + view.w / 2, y = view.y + view.h / 2) {
  const w = Math.min(Math.max(view.w / by, whole.w / 12), whole.w), h = view.h * w / view.w;
  look({ x: x - (x - view.x) * w / view.w, y: y - (y - view.y) * w / view.w, w, h });
}
function hold(picture) {
  let from = null;
  const scale = () => Math.max(view.w / picture.clientWidth, view.h / picture.clientHeight);
  picture.addEventListener("pointerdown", event => { from = [event.clientX, event.clientY]; picture.setPointerCapture(event.pointerId); });
  picture.addEventListener("pointermove", event => {
    if (!from) return;
    look({ ...view, x: view.x - (event.clientX - from[0]) * scale(), y: view.y - (event.clientY - from[1]) * scale() });
    from = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { from = null; });
  picture.addEventListener("wheel", event => {
    if (!event.ctrlKey) return;
    const box = picture.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, view.x + (event.clientX - box.left) * view.w / box.width, view.y + (event.clientY - box.top) * view.h / box.height);
    event.preventDefault();
  }, { passive: false });
}

function paintPictures() {
  const t = choice.t, rules = shown();
  const most = kind => largest(rules.flatMap(rule => data[kind].map((_, i) => sizes(rule, kind, i))));  // one scale for both rules
  const mostNodes = most("nodes"), mostEdges = most("edges");
  at("scale").textContent = `${at("measure").selectedOptions[0].text} at this step: 0 to ${short(mostNodes)}, by square roots`;
  for (const { rule, caption, picture, nodes, edges, labels } of pictures) {
    const other = rules.find(r => r !== rule), found = of(rule);
    nodes.forEach((element, i) => {
      const own = sizes(rule, "nodes", i), there = other === undefined ? null : sizes(other, "nodes", i);
      const different = other !== undefined && differ(own && own[t], there && there[t]);
      const words = ["node", ...element.dataset.of.split(" ").filter(word => word && !(own && word === "state"))];
      if (own) words.push("carries", "kept", `trace${own[t] > 0 ? 1 + Math.round(4 * part(own[t], mostNodes)) : 0}`);
      if (different) words.push("differs");
      if (data.biased[choice.parameter] === i) words.push("enters");
      if (found && found.seeds.includes(i)) words.push("learning");
      if (found && found.stored.includes(i)) words.push("stores");
      element.setAttribute("class", words.join(" "));
      labels[i].textContent = (data.biased[choice.parameter] === i ? "▸ " : "") + (own ? (different ? "≠ " : "") + short(own[t]) : different ? "≠ none" : "");
    });
    edges.forEach((pieces, i) => {
      const own = sizes(rule, "edges", i), kept = Boolean(found && found.edges[i]), cut = Boolean(found && found.cuts.includes(i)), enters = data.entries[choice.parameter].includes(i);
      for (const element of pieces) {
        element.setAttribute("class", ["edge", kept && "kept", cut && "cut", enters && "enters", !kept && !cut && !enters && "passive"].filter(Boolean).join(" "));
        element.style.setProperty("--width", own ? (1 + 5 * part(own[t], mostEdges)).toFixed(2) : "1.6");
      }
    });
    const said = found ? found.verdict.length > 130 ? found.verdict.slice(0, 129) + "…" : found.verdict : "";
    caption.querySelector("span").textContent = found ? ` — ${said}; stores ${found.bytes.toLocaleString("en")} B per sample` : " — leaves this parameter untrained";
    caption.title = found ? found.verdict : "";
    picture.setAttribute("aria-label", `${data.rules[rule].name}: ${at("measure").selectedOptions[0].text} of ${data.parameters[choice.parameter]} at step ${data.steps[t]}; the table below says the same`);
  }
}

// Where two rules differ, parameter by parameter, the most first.
function drawDiffer() {
  const rules = shown();
  document.querySelector(".legend .two").hidden = rules.length < 2;
  if (rules.length < 2) { at("differ").replaceChildren(); return; }
  const [a, b] = rules.map(rule => data.rules[rule].name), names = rules.map(rule => data.rules[rule].name.length > 24 ? "AB"[rules.indexOf(rule)] : data.rules[rule].name);
  const head = make("tr"), body = make("tbody"), table = make("table");
  for (const title of ["parameter", "cosine of the gradients", `length: ${names[0]} by ${names[1]}`, `only ${names[0]} cuts`, `only ${names[1]} cuts`, "stores, B per sample"]) head.append(make("th", title.startsWith("only") ? { scope: "col", class: "text" } : { scope: "col" }, title));
  const rows = data.parameters.map((name, index) => ({ name, index, apart: data.agreement[rules[0]][rules[1]][index] }));
  rows.sort((p, q) => (p.apart ? p.apart[0] : -2) - (q.apart ? q.apart[0] : -2));
  for (const { name, index, apart } of rows) {
    const row = make("tr", index === choice.parameter ? { class: "chosen" } : {}), first = make("th", { scope: "row" }), button = make("button", { type: "button", title: name }, name), cosine = make("td");
    button.addEventListener("click", () => choose({ parameter: index }));
    first.append(button);
    if (apart) cosine.append(make("meter", { min: 0, max: 1, value: Math.max(0, apart[0]), "aria-hidden": "true" }), ` ${apart[0].toFixed(3)}`);
    else cosine.textContent = "–";
    const [one, two] = rules.map(rule => data.rules[rule].parameters[index]);
    const only = (p, q) => p && q ? p.cuts.filter(edge => !q.cuts.includes(edge)).map(edge => data.edges[edge]).join(", ") || "–" : p ? "–" : "untrained";
    row.append(first, cosine, make("td", {}, apart ? apart[1].toFixed(3) : "–"), make("td", { class: "text", title: only(one, two) }, only(one, two)), make("td", { class: "text", title: only(two, one) }, only(two, one)));
    row.append(make("td", {}, [one, two].map(p => p ? p.bytes.toLocaleString("en") : "–").join(" / ")));
    body.append(row);
  }
  const headed = make("thead"), scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Where the rules differ" });
  headed.append(head);
  table.append(make("caption", {}, `Where ${a} and ${b} differ over the whole run, the most first; choose a parameter to see it above`), headed, body);
  scroll.append(table);
  at("differ").replaceChildren(make("h3", {}, "Where the rules differ"), scroll);
}

function paintTable() {
  const t = choice.t, rules = shown(), names = rules.map((rule, i) => data.rules[rule].name.length > 24 ? "AB"[i] : data.rules[rule].name), head = make("tr"), body = make("tbody"), parts = ["trace", "signal", "product"];
  head.append(make("th", { scope: "col" }, "node or edge"));
  for (const name of names) for (const part of parts) head.append(make("th", { scope: "col" }, `${rules.length > 1 ? name + ": " : ""}${part === "product" ? "gradient" : part}`));
  for (const kind of ["nodes", "edges"]) data[kind].forEach((name, i) => {
    const found = rules.map(rule => { const p = of(rule); return p && p[kind][i]; });
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

function drawDoing() {
  const doing = [];
  for (const output of data.outputs) output.features.forEach((feature, k) => doing.push(chart(
    `${data.nodes[output.node]}${output.size > 1 && output.unit !== "class" ? ` [${k}]` : ""}`,
    [{ values: numbers(feature.prediction), look: "predicted", name: "prediction" }, { values: numbers(feature.target), look: "wanted", name: "target" }],
    { unit: output.unit, about: output.score, whole: true })));
  const loss = numbers(data.loss), mean = loss.reduce((a, b) => a + b, 0) / loss.length;
  doing.push(chart("loss", [{ values: loss, look: "first" }], { unit: [...new Set(data.outputs.map(o => o.loss))].join(" + "), about: `mean per step ${short(mean)}` }));
  if (data.curve && data.curve.values.length) {
    const count = data.curve.values.length, xs = Array.from({ length: count }, (_, i) => i + 1), ends = [1, count];
    const levels = Object.entries(data.curve.levels).map(([name, value]) => ({ values: [value, value], xs: ends, look: "level", name: `${name}: ${short(value)}` }));
    doing.push(chart("learning curve", [{ values: data.curve.values, look: "first", name: "while learning" }, ...levels], { unit: data.curve.score, xs, axis: "pass" }));
  }
  at("doing").replaceChildren(...doing);
  at("activity-about").textContent = "Units over time, first sample. Each node has a colour scale of its own; click to go to a step.";
  const maps = data.activity.nodes, chief = maps.length > MAPS ? maps.filter(found => found.chief).slice(0, MAPS) : maps, rest = maps.filter(found => !chief.includes(found));
  at("activity").replaceChildren(...chief.map(map));
  at("more").hidden = !rest.length;
  at("more").querySelector("summary").textContent = `${rest.length} more nodes`;
  at("more").querySelector("div").replaceChildren(...rest.map(map));
}

let kept = 0;
function drawPlots() {
  cursors.length = kept;
  const rules = shown(), looks = ["first", "second"], found = rules.map(of), name = i => rules.length > 1 ? data.rules[rules[i]].name : "";
  const over = (title, values, about) => chart(title, values.map((v, i) => ({ values: v, look: looks[i], name: v && name(i) })), { about, unit: at("measure").selectedOptions[0].text.split(":")[0] });
  const plots = [chart("gradient of the step's loss", found.map((p, i) => ({ values: p ? numbers(p.gradient) : null, look: looks[i], name: name(i) })), { unit: "norm" })];
  if (rules.length > 1 && found[0] && found[0].cosines && found[0].cosines[choice.beside]) plots.push(chart("cosine of the two gradients", [{ values: numbers(found[0].cosines[choice.beside]), look: "first" }], { unit: "cosine" }));
  data.nodes.forEach((node, i) => {
    const series = rules.map(rule => sizes(rule, "nodes", i));
    if (series.some(Boolean)) plots.push(over(node, series));
  });
  at("plots").replaceChildren(...plots);
  const equations = rules.map(rule => {
    const block = make("div");
    block.append(make("h3", {}, data.rules[rule].name), make("pre", {}, of(rule) ? of(rule).equation : "untrained"));
    return block;
  });
  at("equations").replaceChildren(...equations);
}

function paint() {
  const t = choice.t;
  at("step").value = t;
  at("step").setAttribute("aria-valuetext", `step ${data.steps[t]}, the last is ${data.total - 1}`);
  at("now").textContent = `${data.steps[t]} of 0–${data.total - 1}`;
  for (const place of cursors) place(t);
  paintPictures();
  paintTable();
}

function draw() {
  at("rule").value = choice.rule; at("beside").value = choice.beside;
  at("parameter").value = choice.parameter; at("measure").value = choice.measure;
  drawPictures();
  drawDiffer();
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
  words.set("beside", choice.beside >= 0 ? data.rules[choice.beside].name : "");
  try { history.replaceState(null, "", "#" + words); } catch { /* a page inside another has no address */ }
  clearTimeout(settled);
  settled = setTimeout(() => { at("said").textContent = `Step ${data.steps[choice.t]}`; }, 400);
}

function read() {
  const words = new URLSearchParams(location.hash.slice(1)), change = {}, names = data.rules.map(rule => rule.name);
  const step = Number(words.get("t"));
  if (words.has("t") && Number.isFinite(step)) change.t = nearest(data.steps, step);  // the nearest step that was kept
  if (names.includes(words.get("rule"))) change.rule = names.indexOf(words.get("rule"));
  if (words.has("beside")) change.beside = names.indexOf(words.get("beside"));
  else if (change.rule !== undefined) change.beside = names.findIndex((_, i) => i !== change.rule);
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
at("in").addEventListener("click", () => zoom(1.4));
at("out").addEventListener("click", () => zoom(1 / 1.4));
at("whole").addEventListener("click", () => look({ ...whole }));
at("controls").addEventListener("submit", event => event.preventDefault());
addEventListener("resize", () => look(view));
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
drawDoing();
kept = cursors.length;
draw();
document.documentElement.dataset.ready = "yes";

"use strict";
// Charts over time, with axes; drawn anew when their width changes.
let cursors = [];
const widths = new ResizeObserver(entries => { for (const { target } of entries) if (target.redraw) target.redraw(); });
function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count)), wide = [1, 2, 5, 10].map(f => f * step).find(s => (high - low) / s <= count);
  const found = [];
  for (let x = Math.ceil(low / wide - 1e-9) * wide; x <= high + wide * 1e-9 && found.length < 20; x += wide) found.push(Math.abs(x) < wide * 1e-9 ? 0 : x);
  return found;
}
function chart(title, series, { unit = "", xs = data.steps, axis = "step", about = "", whole = false } = {}) {
  const figure = make("figure", { class: "chart" }), caption = make("figcaption", {}, title), lines = series.filter(s => s.values);
  const finite = lines.flatMap(s => Array.from(s.values).filter(Number.isFinite)), most = finite.reduce((a, b) => Math.max(a, b), -Infinity), least = finite.reduce((a, b) => Math.min(a, b), Infinity);
  let low = Math.min(least, whole ? least : 0), high = Math.max(most, whole ? most : 0);
  if (!finite.length) [low, high] = [0, 1];
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  if (about) caption.append(make("span", {}, ` — ${about}`));
  if (lines.some(s => s.name)) for (const s of lines) { const key = make("span"); key.append(" ", make("i", { class: `key ${s.look}` }), ` ${s.name || ""}`); caption.append(key); }
  const svg = draw2d("svg", { role: "img", "aria-label": `${title}${about ? `, ${about}` : ""}: from ${short(low)} to ${short(high)}` }), height = 150, left = 56, right = 10, top = 20, bottom = 30;
  const first = xs[0], final = xs[xs.length - 1], span = final - first || 1;
  svg.redraw = () => {
    const width = svg.clientWidth || 320, x = v => left + (width - left - right) * (final === first ? 0.5 : (v - first) / span), y = v => height - bottom - (height - top - bottom) * (v - low) / (high - low);
    if (svg.drawn === width) return;
    svg.drawn = width;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    for (const v of ticks(low, high, 5)) parts.push(draw2d("line", { class: "axis", x1: left, x2: width - right, y1: y(v), y2: y(v) }), draw2d("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, brief(v)));
    for (const v of final === first ? [first] : ticks(first, final, Math.max(2, width / 90)).filter(Number.isInteger)) parts.push(draw2d("line", { class: "axis", x1: x(v), x2: x(v), y1: height - bottom, y2: height - bottom + 4 }), draw2d("text", { x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, String(v)));
    parts.push(draw2d("text", { x: width - right, y: height - 2, "text-anchor": "end" }, axis), draw2d("text", { x: 2, y: 10 }, unit));
    for (const s of lines) {
      const points = Array.from(s.values, (v, i) => Number.isFinite(v) ? `${x(s.xs ? s.xs[i] : xs[i]).toFixed(1)},${y(v).toFixed(1)}` : "");
      for (const run of points.join(" ").split(/ {2,}/)) {  // what is no number is a gap
        if (!run.trim()) continue;
        const only = run.trim().split(" ");
        parts.push(only.length > 1 ? draw2d("polyline", { class: `line ${s.look}`, points: run.trim() }) : draw2d("circle", { class: `line ${s.look}`, cx: only[0].split(",")[0], cy: only[0].split(",")[1], r: 2 }));
      }
    }
    if (axis === "step") {
      svg.cursor = draw2d("line", { class: "cursor", y1: top, y2: height - bottom });
      parts.push(svg.cursor);
    }
    svg.place = t => { if (svg.cursor) { svg.cursor.setAttribute("x1", x(data.steps[t])); svg.cursor.setAttribute("x2", x(data.steps[t])); } };
    svg.replaceChildren(...parts);
    svg.place(choice.t);
  };
  if (axis === "step") {
    svg.addEventListener("click", event => {
      const box = svg.getBoundingClientRect();
      goto(first + span * (event.clientX - box.left - left) / (box.width - left - right));
    });
    cursors.push(t => { if (svg.place) svg.place(t); });
  }
  figure.append(caption, svg);
  widths.observe(svg);
  return figure;
}
const brief = x => short(x).replace(/\.?0+e/, "e");
const nearest = (steps, step) => steps.reduce((best, s, i) => Math.abs(s - step) < Math.abs(steps[best] - step) ? i : best, 0);
function goto(step) { choose({ t: nearest(data.steps, step) }); }

// Maps of activity: units over time.
const MAPS = 12;  // maps that are seen at once: of more nodes, inputs, states, spikes and outputs
const RAMPS = { one: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], two: [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]] };
const color = (ramp, share) => {
  const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1), k = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[k].map((value, i) => value + (place - k) * (ramp[k + 1][i] - value));
};
function paper() { return getComputedStyle(document.body).color.match(/\d+/g).slice(0, 3).map(Number); }
function map(found) {
  const { shown: rows, units, spikes, low, high } = found, steps = data.activity.steps, levels = bytes(found.bytes), columns = steps.length;
  const signed = !spikes && low < 0 && high > 0, reach = Math.max(-low, high), ramp = signed ? RAMPS.two : RAMPS.one;
  const share = level => { const value = low + (high - low) * level / 255; return signed ? (value / reach + 1) / 2 : level / 255; };
  const figure = make("figure", { class: "map" }), caption = make("figcaption", {}, data.nodes[found.node]), plane = make("div", { class: "plane" }), canvas = make("canvas", { width: columns, height: rows, role: "img", "aria-label": `activity of ${data.nodes[found.node]}` });
  const paint = () => {
    const context = canvas.getContext("2d"), image = context.createImageData(columns, rows), ink = paper();
    for (let k = 0; k < levels.length; k++) {
      const [r, g, b] = spikes ? ink : color(ramp, share(levels[k]));
      image.data.set([r, g, b, spikes ? (levels[k] && high > 0 ? 255 : 0) : 255], 4 * k);
    }
    context.putImageData(image, 0, 0);
  };
  paint();
  if (spikes) matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  plane.style.height = `${Math.min(150, Math.max(24, rows * 6))}px`;
  const cursor = make("div", { class: "at" }), axis = make("div", { class: "units" });
  axis.append(make("span", {}, "0"), ...(rows > 1 ? [make("span", {}, String(rows - 1))] : []));
  plane.append(canvas, cursor, axis);
  const words = make("span", {}, ` — ${units > rows ? `${rows} of ` : ""}${units} ${units === 1 ? "unit" : "units"}`);
  if (spikes) words.append("; each mark a spike");
  else if (!(high > low)) words.append(`; always ${short(low)}`);
  else {
    const bar = make("canvas", { class: "ramp", width: 64, height: 1 }), image = bar.getContext("2d").createImageData(64, 1);
    for (let k = 0; k < 64; k++) image.data.set([...color(ramp, k / 63), 255], 4 * k);
    bar.getContext("2d").putImageData(image, 0, 0);
    words.append("; ", short(signed ? -reach : low), bar, short(signed ? reach : high));
  }
  caption.append(words);
  const under = make("div", { class: "ticks" });
  under.append(make("span", {}, `step ${steps[0]}`), make("span", {}, String(steps[Math.floor((columns - 1) / 2)])), make("span", {}, String(steps[columns - 1])));
  canvas.addEventListener("click", event => {
    const box = canvas.getBoundingClientRect();
    goto(steps[Math.min(columns - 1, Math.floor(columns * (event.clientX - box.left) / box.width))]);
  });
  cursors.push(t => { cursor.style.left = `${100 * (nearest(steps, data.steps[t]) + 0.5) / columns}%`; });
  figure.append(caption, plane, under);
  return figure;
}

// Figures: loaded when within one screen of the viewport, drawn one a frame, redrawn with Plotly.react so that zoom
// stays; one selection and one legend over all of them. States other than "ready" are said in words.

import { say, theme } from "./app.js";
import { choose, current, describePoint, marks, restore, set, solutions, solutionsHere, subscribe } from "./selection.js";

const page = document.querySelector("[data-experiment]");
const root = document.documentElement;
const ink = name => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const DIMMED = 0.3;
const PAPER = 656; // px: A4 and Letter without their margins, and those of a card
const AXIS = /^[xy]axis\d*$/;

/** By the id of its element. @type {Map<string, Card>} */
const cards = new Map();
// Solutions are numbered per experiment, so several of them side by side share zoom and legend but no selection.
const comparing = page !== null && "compare" in page.dataset;
let hidden = new Set(); // legend groups that are off
let only = false; // show nothing but the selection
// A finger scrolls the page; a switch in the legend lets it draw a selection instead.
const coarse = matchMedia("(pointer: coarse)").matches;
let selecting = false;
const dragMode = (card, layout) => (comparing ? "zoom" : null) ?? card.drag ?? (coarse ? (selecting ? "lasso" : false) : layout.dragmode);

let plotly = null;
/** Plotly comes with the first figure, never with a page that has none. */
function library() {
  plotly ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: page.dataset.plotly });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("Plotly could not be loaded"));
    document.head.append(script);
  });
  return plotly;
}

const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

/** Base64 arrays as typed arrays, once, so that nothing is decoded again at every brush. */
export function decodeArrays(value) {
  if (Array.isArray(value)) return value.map(decodeArrays);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.bdata === "string") {
    const bytes = Uint8Array.from(atob(value.bdata), letter => letter.charCodeAt(0));
    const flat = new TYPES[value.dtype](bytes.buffer);
    const shape = String(value.shape ?? "").split(",").map(Number);
    if (shape.length < 2) return flat;
    return Array.from({ length: shape[0] }, (_, i) => flat.subarray(i * shape[1], (i + 1) * shape[1]));
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decodeArrays(item)]));
}

const numberOf = custom => (custom == null ? -1 : typeof custom === "object" ? custom[0] : custom);

class Card {
  constructor(element) {
    this.element = element;
    this.name = element.dataset.figure;
    this.needs = element.dataset.needs.split(" ");
    this.plot = element.querySelector(".plot");
    this.wait = element.querySelector("[data-wait]");
    this.figure = null;
    this.near = false;
    this.dirty = true;
    this.failures = 0;
    this.panel = null;
    if (!comparing) this.listen();
  }

  part(name) {
    return this.element.querySelector(`[data-${name}]`);
  }

  /** The experiment it is of. */
  get slug() {
    return this.element.dataset.src.split("/").at(-3);
  }

  /** Whether the server draws other groups when asked for them; else hiding them here is enough. */
  get redraws() {
    return this.element.dataset.options.split(" ").includes("method");
  }

  url() {
    const options = this.element.dataset.options.split(" ");
    const asked = new URLSearchParams({ theme: theme() });
    for (const [key, value] of new URL(location.href).searchParams) {
      if (options.includes(key) && !(comparing && key === "e")) asked.set(key, value); // there `e` names experiments
    }
    if (options.includes("size") && this.element.dataset.size) asked.set("size", this.element.dataset.size);
    if (options.includes("panel") && this.panel) asked.set("panel", this.panel);
    return `${this.element.dataset.src}.json?${asked}`;
  }

  async load() {
    if (!this.near || !this.dirty) return;
    this.dirty = false;
    const narrow = this.element.clientWidth < 560;
    let answer, document_;
    try {
      answer = await fetch(this.url(), { headers: { Accept: "application/json", Prefer: "respond-async" } });
      document_ = await answer.json();
    } catch {
      const seconds = Math.min(32, 2 ** ++this.failures);
      this.tell(`Connection lost, trying again in ${seconds} s`);
      this.dirty = true;
      setTimeout(() => this.load(), seconds * 1000);
      return;
    }
    this.failures = 0;
    if (answer.status !== 200) return this.refuse(answer.status, document_);
    const { data, layout } = decodeArrays(document_);
    const panels = layout.meta?.panels ?? [];
    if (narrow && panels.length && !this.panel) {
      this.panel = panels.at(-1);
      this.choices(panels);
      this.dirty = true;
      return this.load();
    }
    const first = !this.figure;
    this.figure = { data, layout };
    this.about(layout.meta.modescape);
    if (first) queue(this);
    else this.draw();
  }

  /** Words around the plot: caption, accessible summary, what is still missing, the small table. */
  about(about) {
    if (about.summary) this.plot.setAttribute("aria-label", about.summary);
    const caption = this.part("caption");
    if (caption) caption.textContent = [about.caption, about.missing, about.thinned].filter(Boolean).join(" ");
    const partial = this.part("partial");
    if (partial) {
      partial.textContent = about.partial || "";
      partial.hidden = !about.partial;
    }
    const aside = this.part("notes");
    const notes = about.notes;
    if (aside && notes) {
      aside.hidden = !(notes.lines.length || notes.text.length);
      aside.replaceChildren(notesTable(notes), ...notes.text.map(text => make("p", { textContent: text })));
    }
  }

  /** That what is marked stands for solutions which are not in this picture. */
  saysAbsent(absent, marked) {
    const n = current().length;
    const said = this.element.querySelector("[data-absent]") ?? make("p", { className: "small muted absent" });
    said.dataset.absent = "";
    said.hidden = !absent.length;
    const some = absent.length === 1 ? `1 of ${n} selected is` : `${absent.length} of ${n} selected are`;
    const which = absent.length < n ? some : n > 1 ? "None of the selected is" : "The selected solution is";
    const not = absent.length === n && n > 1 ? "" : "not ";
    const stand = marked.length ? "; marked are points of the same run, and of the same method where it shows any" : "";
    said.textContent = `${which} ${not}in this picture${stand}.`;
    if (!said.isConnected) this.element.querySelector(".body").before(said);
  }

  refuse(status, problem) {
    const words = status === 202 ? problem.detail : `${problem.title || "Failed"}: ${problem.detail || status}`;
    if (this.figure) return this.tell(words);
    this.wait.querySelector("[data-why]").replaceChildren(make("strong", { textContent: words[0].toUpperCase() + words.slice(1) }));
  }

  tell(words) {
    const partial = this.part("partial");
    if (this.figure && partial) {
      partial.hidden = false;
      partial.textContent = words;
    } else this.wait.querySelector("[data-why]").textContent = words;
  }

  /** Narrow screens see one panel at a time. */
  choices(panels) {
    const seg = make("div", { className: "seg small" });
    seg.setAttribute("role", "group");
    for (const panel of panels) {
      const button = make("button", { type: "button", textContent: panel });
      button.setAttribute("aria-pressed", `${panel === this.panel}`);
      button.onclick = () => {
        this.panel = panel;
        for (const other of seg.children) other.setAttribute("aria-pressed", `${other === button}`);
        this.dirty = true;
        this.load();
      };
      seg.append(button);
    }
    this.element.querySelector(".body").before(seg);
    seg.style.margin = "8px 12px 0";
  }

  /** At once and as wide as paper; a figure that is not here yet, or was drawn for another ground, is waited for. */
  print() {
    const { panel } = this;
    this.panel = null; // all of them
    const request = new XMLHttpRequest();
    request.open("GET", this.url(), false);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Prefer", "respond-async");
    request.send();
    this.panel = panel;
    const document_ = JSON.parse(request.responseText);
    if (request.status !== 200) return this.refuse(request.status, document_);
    const { data, layout } = decodeArrays(document_);
    this.figure = { data, layout };
    this.about(layout.meta.modescape);
    this.put(window.Plotly, { width: PAPER, autosize: false });
  }

  async draw() {
    if (!this.figure) return;
    await this.put(await library());
  }

  async put(Plotly, more = {}) {
    this.wait.hidden = true;
    this.plot.hidden = false;
    const { marked, absent } = standing(this.figure, current());
    this.saysAbsent(absent, marked);
    const { data, layout } = compose(this.figure, marked);
    Object.assign(layout, { ...zoomed(this.name, layout), dragmode: dragMode(this, layout), ...more });
    await Plotly.react(this.plot, data, layout, {
      displaylogo: false,
      showSendToCloud: false,
      responsive: true,
      modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud", "autoScale2d", "toImage"],
      modeBarButtonsToAdd: [{ name: "picture", title: "Download as PNG", icon: Plotly.Icons.camera, click: () => image(this, this.name, "png") }],
    });
    alignAxes(this.name);
    partNames(this.plot);
    if (this.plot.dataset.live) return;
    this.plot.dataset.live = "1";
    this.attach();
    dispatchEvent(new CustomEvent("figuredrawn", { detail: this.name }));
  }

  /** What Plotly reports; it exists only after the first drawing. */
  attach() {
    this.plot.on("plotly_relayout", change => {
      rememberZoom(this, change);
      if (Object.keys(change).some(key => key.includes("axis"))) partNames(this.plot);
    });
    if (comparing) return;
    const numbers = event => (event?.points ?? []).flatMap(point => pointNumbers(point, this.figure)).filter(n => n >= 0);
    this.plot.on("plotly_click", event => set(choose(current(), [...new Set(numbers(event))], event.event)));
    this.plot.on("plotly_selected", event => {
      if (!event) return;
      set(choose(current(), [...new Set(numbers(event))], this.keys ?? {}));
      window.Plotly.relayout(this.plot, { selections: [] }); // the marks say what is chosen; the rectangle would stay behind
    });
    this.plot.on("plotly_hover", event => ring(numbers(event)[0], this));
    this.plot.on("plotly_unhover", () => ring(-1, this));
    this.plot.on("plotly_deselect", () => set([]));
    this.plot.addEventListener("pointerup", event => (this.keys = { shiftKey: event.shiftKey, altKey: event.altKey }), true);
  }

  /** One stop for Tab: Enter goes in, arrows move between points by group then x, Space selects, Esc leaves. */
  listen() {
    let at = -1;
    let inside = false;
    this.plot?.addEventListener("keydown", event => {
      const points = this.points();
      if (event.key === "Enter" && !inside) inside = points.length > 0;
      else if (event.key === "Escape" && inside) {
        inside = false;
        window.Plotly?.Fx.unhover(this.plot);
        event.stopPropagation();
        return;
      } else if (!inside) return;
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Enter: 0 }[event.key];
      if (by === undefined && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key === " ") return set(choose(current(), [points[at].number], { ...event, shiftKey: event.shiftKey, altKey: event.altKey }));
      at = Math.max(0, Math.min(points.length - 1, Math.max(at, 0) + by));
      const { curve, index, number } = points[at];
      window.Plotly.Fx.hover(this.plot, [{ curveNumber: curve, pointNumber: index }]);
      ring(number, this);
      describePoint(number).then(text => (document.querySelector("#announce").textContent = text));
    });
  }

  /** Every point that is a solution, by group, then x. */
  points() {
    if (!this.figure) return [];
    const found = [];
    this.figure.data.forEach((trace, curve) => {
      if (!trace.customdata || hidden.has(trace.legendgroup) || !String(trace.mode).includes("markers")) return;
      trace.customdata.forEach((custom, index) => found.push({ curve, index, number: numberOf(custom), x: trace.x[index] }));
    });
    return found.sort((a, b) => a.curve - b.curve || a.x - b.x);
  }
}

/** Solutions behind a point: a mark's own, or the row and column of a heat map's cell. */
function pointNumbers(point, figure) {
  const { rows, columns } = figure.layout.meta ?? {};
  if (point.data?.type === "heatmap" && rows) {
    const [i, j] = point.pointIndex ?? point.pointNumber ?? [];
    return [rows[i], columns[j]].filter(n => n !== undefined);
  }
  return [numberOf(point.customdata)];
}

/** What to mark in a figure for the chosen solutions; nothing stands for others where a figure shows no solutions. */
function standing(figure, chosen) {
  figure.shown ??= new Set(
    [
      ...figure.data.flatMap(trace => Array.from(trace.customdata ?? [], numberOf)),
      ...(figure.layout.meta?.rows ?? []),
      ...(figure.layout.meta?.columns ?? []),
    ].filter(n => n >= 0),
  );
  const known = solutionsHere();
  if (!chosen.length || !known || !figure.shown.size) return { marked: chosen, absent: [] };
  return marks(chosen, figure.shown, known);
}

/** The figure as it is to be seen: legend filter, then selection. Heat maps are never faded: they get bands. */
function compose(figure, chosen) {
  const picked = new Set(chosen);
  const data = figure.data.map(trace => {
    const changed = { ...trace, visible: !hidden.has(trace.legendgroup) };
    if (!picked.size || !trace.customdata || trace.type === "heatmap") {
      if (picked.size && !trace.customdata && trace.legendgroup && !trace.showlegend && trace.type !== "heatmap" && only) changed.visible = false;
      return changed;
    }
    const inside = Array.from(trace.customdata, custom => picked.has(numberOf(custom)));
    if (!String(trace.mode).includes("markers")) {
      const any = inside.some(Boolean);
      changed.opacity = any ? 1 : Math.min(DIMMED, trace.opacity ?? 1);
      changed.line = { ...trace.line, width: (trace.line?.width ?? 1) * (any ? 2 : 1) };
      if (only && !any) changed.visible = false;
      return changed;
    }
    const mark = trace.marker ?? {};
    const each = (value, i) => (value != null && typeof value === "object" ? value[i] : value);
    const hollow = String(each(mark.symbol, 0)).endsWith("-open");
    changed.marker = {
      ...mark,
      opacity: inside.map(yes => (yes ? 1 : only ? 0 : DIMMED)),
      size: inside.map((yes, i) => (each(mark.size, i) ?? 7) + (yes ? 2 : 0)),
      line: {
        ...mark.line,
        width: inside.map((yes, i) => (yes ? 1.5 : each(mark.line?.width, i) ?? 0)),
        color: inside.map((yes, i) => (yes && !hollow ? ink("text") : each(mark.line?.color, i) ?? ink("card"))),
      },
    };
    return changed;
  });
  // Plotly writes into the axes and labels it was given; the figure's own must stay as the server sent them.
  const annotations = (figure.layout.annotations ?? []).map(label => ({ ...label }));
  const layout = { ...figure.layout, annotations, shapes: [...(figure.layout.shapes ?? []), ...bands(figure, picked)] };
  if (comparing) for (const key of Object.keys(layout).filter(key => AXIS.test(key))) layout[key] = { ...layout[key] };
  return { data, layout };
}

/** Outlined bands over the chosen rows and columns of every heat map: ink 2 px over card 5 px. */
function bands(figure, picked) {
  const { rows, columns } = figure.layout.meta ?? {};
  if (!rows || !picked.size) return [];
  const shapes = [];
  for (const trace of figure.data.filter(trace => trace.type === "heatmap")) {
    for (const [numbers, along] of [[rows, "y"], [columns, "x"]]) {
      for (const [first, last] of runs(numbers.map(n => picked.has(n)))) {
        const across = along === "y" ? columns.length : rows.length;
        const place = { [`${along}0`]: first - 0.5, [`${along}1`]: last + 0.5, [along === "y" ? "x0" : "y0"]: -0.5, [along === "y" ? "x1" : "y1"]: across - 0.5 };
        for (const [name, width] of [["card", 5], ["text", 2]])
          shapes.push({ type: "rect", xref: trace.xaxis ?? "x", yref: trace.yaxis ?? "y", ...place, line: { color: ink(name), width }, fillcolor: "rgba(0,0,0,0)" });
      }
    }
  }
  return shapes;
}

/** @param {boolean[]} flags @returns {[number, number][]} first and last index of each run of true */
function runs(flags) {
  const found = [];
  for (let i = 0; i < flags.length; i++) {
    if (!flags[i]) continue;
    const first = i;
    while (flags[i + 1]) i++;
    found.push([first, i]);
  }
  return found;
}

/** The same solution ringed in the other plots. */
function ring(number, from) {
  for (const card of cards.values()) {
    card.ringed?.remove();
    if (card === from || number < 0 || !card.plot?._fullLayout || !card.figure) continue;
    const point = card.points().find(point => point.number === number);
    if (!point) continue;
    const trace = card.plot._fullData[point.curve];
    const { xaxis, yaxis } = { xaxis: card.plot._fullLayout[axisKey(trace.xaxis)], yaxis: card.plot._fullLayout[axisKey(trace.yaxis)] };
    const y = card.figure.data[point.curve].y[point.index];
    card.ringed = make("i", { className: "ring", ariaHidden: "true" });
    card.ringed.style.left = `${xaxis._offset + xaxis.l2p(point.x)}px`;
    card.ringed.style.top = `${yaxis._offset + yaxis.l2p(y)}px`;
    card.plot.append(card.ringed);
  }
}
const axisKey = id => `${id[0]}axis${id.slice(1)}`;

// Zoom belongs to the URL, per figure by name: plane.x=.5,.8
function rememberZoom(card, change) {
  if (aligning) return;
  const { name } = card;
  const url = new URL(location.href);
  for (const axis of ["x", "y"]) {
    const range = change[`${axis}axis.range`] ?? (`${axis}axis.range[0]` in change ? [change[`${axis}axis.range[0]`], change[`${axis}axis.range[1]`]] : null);
    if (range) url.searchParams.set(`${name}.${axis}`, range.map(value => (typeof value === "number" ? +value.toPrecision(4) : value)).join(","));
    else if (change[`${axis}axis.autorange`] || change[`${axis}axis.showspikes`] === false) url.searchParams.delete(`${name}.${axis}`);
  }
  if (url.href === location.href) return;
  history.replaceState(history.state, "", url.href.replaceAll("%2C", ","));
  for (const other of cards.values()) if (other !== card && other.name === name && other.plot.dataset.live) other.draw();
  alignAxes(name);
}

let aligning = false;
/** The same figure of several experiments gets axes that hold all of them, while nobody has zoomed. */
async function alignAxes(name) {
  const together = [...cards.values()].filter(card => card.name === name && card.plot._fullLayout);
  const asked = new URL(location.href).searchParams;
  if (aligning || together.length < 2 || !document.querySelector("[data-same-axes]")?.checked) return;
  if (asked.has(`${name}.x`) || asked.has(`${name}.y`)) return;
  const ranges = {};
  for (const { plot } of together) {
    for (const key of Object.keys(plot._fullLayout).filter(key => AXIS.test(key))) {
      const id = key.replace("axis", "");
      const over = plot._fullData.filter(trace => [trace.xaxis, trace.yaxis].includes(id));
      const { type, range, visible } = plot._fullLayout[key];
      // Cells of heat maps are counted, not measured; axes without numbers mean nothing; turned ones keep their own way.
      const measured = visible && ["linear", "log"].includes(type) && range[0] < range[1] && over.every(trace => trace.type === "scatter" || trace.type === "bar");
      if (!measured || ranges[key] === null) ranges[key] = null;
      else ranges[key] = ranges[key] ? [Math.min(ranges[key][0], range[0]), Math.max(ranges[key][1], range[1])] : [...range];
    }
  }
  const change = Object.fromEntries(Object.entries(ranges).filter(([, range]) => range).map(([key, range]) => [`${key}.range`, range]));
  aligning = true;
  try {
    for (const { plot } of together) {
      const own = Object.fromEntries(Object.entries(change).filter(([key]) => plot._fullLayout[key.split(".")[0]]));
      await window.Plotly.relayout(plot, own);
      partNames(plot);
    }
  } finally {
    aligning = false;
  }
}

const NAME_GAP = 15; // px, as drawing/style.py
/** Names at the ends of curves stay apart when a zoom, or another experiment's axes, move the ends. */
function partNames(plot) {
  const layout = plot._fullLayout;
  const inside = (axis, at) => axis.l2p(at) >= -0.5 && axis.l2p(at) <= axis._length + 0.5;
  const ends = (layout.annotations ?? [])
    .map((label, index) => ({ label, index, x: layout[axisKey(label.xref)], y: layout[axisKey(label.yref)] }))
    .filter(({ label, x, y }) => label.name === "end" && inside(x, label.x) && inside(y, label.y));
  const change = {};
  for (const axis of new Set(ends.map(end => end.y))) {
    const beside = ends.filter(end => end.y === axis);
    const wanted = beside.map(({ label }) => axis.l2p(label.y));
    const placed = apart(wanted, NAME_GAP);
    const over = Math.max(0, Math.max(...placed) - axis._length);
    beside.forEach(({ label, index }, i) => {
      const ay = placed[i] - over - wanted[i];
      if (Math.abs(ay - label.ay) > 0.2) change[`annotations[${index}].ay`] = ay;
    });
  }
  if (Object.keys(change).length) window.Plotly.relayout(plot, change);
}

/** The positions moved as little as needed to be `gap` apart: runs of meeting ones share their mean place. */
function apart(positions, gap) {
  const first = group => group.reduce((sum, i) => sum + positions[i], 0) / group.length - (gap * (group.length - 1)) / 2;
  const groups = [];
  for (const i of positions.map((_, i) => i).sort((a, b) => positions[a] - positions[b])) {
    groups.push([i]);
    while (groups.length > 1 && first(groups.at(-1)) < first(groups.at(-2)) + gap * groups.at(-2).length) {
      const last = groups.pop();
      groups.at(-1).push(...last);
    }
  }
  const placed = [];
  for (const group of groups) group.forEach((i, k) => (placed[i] = first(group) + k * gap));
  return placed;
}

function zoomed(name, layout) {
  const asked = new URL(location.href).searchParams;
  const found = {};
  for (const axis of ["x", "y"]) {
    const range = (asked.get(`${name}.${axis}`) ?? "").split(",").map(Number);
    if (range.length === 2 && range.every(Number.isFinite)) found[`${axis}axis`] = { ...layout[`${axis}axis`], range, autorange: false };
  }
  return found;
}

const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

function notesTable(notes) {
  if (!notes.lines.length) return document.createDocumentFragment();
  const table = make("table", { className: "notes" });
  const row = (cells, tag, strong = false) => {
    const line = make("tr");
    cells.forEach((text, i) => {
      const cell = make(i && tag === "td" ? "td" : "th", { className: i ? "num" : "" });
      cell.setAttribute("scope", tag === "th" ? "col" : "row");
      if (cell.tagName === "TD") cell.removeAttribute("scope");
      cell.append(strong ? make("b", { textContent: text }) : text);
      line.append(cell);
    });
    return line;
  };
  if (notes.head.length) table.createTHead().append(row(notes.head, "th"));
  const body = table.createTBody();
  for (const line of notes.lines) body.append(row([line.label, ...line.values], "td", line.strong));
  return table;
}

// One drawing a frame, so that the page answers while figures come in.
const waiting = [];
function queue(card) {
  waiting.push(card);
  if (waiting.length === 1) requestAnimationFrame(next);
}
async function next() {
  await waiting[0].draw();
  waiting.shift();
  if (waiting.length) requestAnimationFrame(next);
}

function redraw() {
  for (const card of cards.values()) if (card.plot?.dataset.live) card.draw();
}

/** A picture of the figure in the theme seen, its words around it, made by the browser. */
async function image(card, name, format) {
  const Plotly = await library();
  const width = card?.plot?.clientWidth || 960;
  const asked = card?.url() ?? `${page.dataset.api}/figures/${name}.json?theme=${theme()}`;
  const answer = await fetch(`${asked}&frame=${Math.max(480, width)}`, { headers: { Accept: "application/json", Prefer: "respond-async" } });
  const document_ = await answer.json();
  if (answer.status !== 200) return say(document_.detail);
  const figure = decodeArrays(document_);
  const { data, layout } = compose(figure, standing(figure, current()).marked);
  Object.assign(layout, card ? zoomed(card.name, layout) : {});
  const size = { width: layout.width, height: layout.height };
  const href = await Plotly.toImage({ data, layout }, { format, scale: format === "png" ? 2 : 1, ...size });
  make("a", { href, download: `${card?.slug ?? page.dataset.slug}-${name}.${format}` }).click();
}

function readLegend() {
  const asked = new URL(location.href).searchParams.get("method");
  const buttons = [...document.querySelectorAll("[data-group]")];
  if (asked !== null) {
    const shown = new Set(asked.split(","));
    hidden = new Set(buttons.map(button => button.dataset.group).filter(group => !shown.has(group)));
  } else hidden = new Set(buttons.filter(button => !(button.defaultChecked ?? true)).map(button => button.dataset.group));
  markLegend(buttons);
}

function markLegend(buttons) {
  for (const button of buttons) {
    const on = !hidden.has(button.dataset.group);
    if (button.type === "checkbox") button.checked = on;
    else button.setAttribute("aria-pressed", `${on}`);
  }
}

function toggleGroup(group) {
  const buttons = [...document.querySelectorAll("[data-group]")];
  if (hidden.has(group)) hidden.delete(group);
  else hidden.add(group);
  markLegend(buttons);
  const url = new URL(location.href);
  const shown = buttons.map(button => button.dataset.group).filter(name => !hidden.has(name));
  // Alone on its page a figure may leave groups out by itself, so there "all" has to be said.
  const all = !hidden.size && !(cards.size === 1 && [...cards.values()][0].redraws);
  if (all) url.searchParams.delete("method");
  else url.searchParams.set("method", shown.join(","));
  history.replaceState(history.state, "", url.href.replaceAll("%2C", ","));
  redraw();
  for (const card of cards.values()) {
    if (!card.redraws) continue;
    card.dirty = true;
    card.load();
    dispatchEvent(new CustomEvent("groupschanged"));
  }
}

if (page) {
  readLegend();
  const observer = new IntersectionObserver(
    entries => {
      for (const entry of entries) {
        const card = cards.get(entry.target.id);
        card.near = entry.isIntersecting;
        if (card.near) card.load();
      }
    },
    { rootMargin: "100% 0px" },
  );
  for (const element of document.querySelectorAll("[data-figure]")) {
    if (!element.querySelector(".plot")) continue;
    cards.set(element.id, new Card(element));
    observer.observe(element);
  }

  addEventListener("themechange", () => {
    for (const card of cards.values()) {
      card.dirty = true;
      card.load();
    }
  });
  addEventListener("stagesdone", event => {
    for (const card of cards.values()) {
      if (!event.detail.some(kind => card.needs.includes(kind))) continue;
      card.dirty = true;
      card.load();
    }
  });
  addEventListener("onlythese", event => {
    only = event.detail;
    redraw();
  });
  let frame = 0;
  subscribe(async chosen => {
    if (chosen.length && !comparing) await solutions();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(redraw);
  });
  restore();

  // Paper is white, and the browser waits for nobody once it prints: by then every figure must be drawn, in the light
  // theme and as wide as paper. So the library comes when the page is idle, and the figures while the browser waits.
  let before = null;
  addEventListener("beforeprint", () => {
    if (before || !window.Plotly) return;
    before = { theme: root.dataset.theme, seen: theme(), folded: [...document.querySelectorAll("#claims details:not([open])")] };
    root.dataset.theme = "light";
    for (const details of before.folded) details.open = true;
    for (const card of cards.values()) card.print();
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    for (const details of before.folded) details.open = false;
    for (const card of cards.values()) {
      card.dirty ||= before.seen !== "light" || card.panel !== null;
      if (card.plot.dataset.live) card.draw();
      card.load();
    }
    before = null;
  });
  async function print() {
    await library();
    window.print();
  }
  if (cards.size) (window.requestIdleCallback ?? setTimeout)(() => library().catch(() => {}));
  document.addEventListener("keydown", event => {
    if (event.key !== "p" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    print();
  });

  document.addEventListener("click", event => {
    const button = event.target.closest("[data-image], button[data-group], [data-mode], [data-reset], [data-select], [data-print]");
    if (!button) return;
    if ("print" in button.dataset) print();
    else if ("select" in button.dataset) {
      selecting = !selecting;
      button.setAttribute("aria-pressed", `${selecting}`);
      redraw();
    } else if (button.dataset.image) image(cards.get(button.dataset.of), button.dataset.of, button.dataset.image);
    else if (button.dataset.group) toggleGroup(button.dataset.group);
    else {
      const card = [...cards.values()][0];
      if (button.dataset.mode) {
        card.drag = button.dataset.mode;
        for (const other of document.querySelectorAll("[data-mode]")) other.setAttribute("aria-pressed", `${other === button}`);
        window.Plotly?.relayout(card.plot, { dragmode: card.drag });
      } else {
        const url = new URL(location.href);
        for (const axis of ["x", "y"]) url.searchParams.delete(`${card.name}.${axis}`);
        history.replaceState(history.state, "", url);
        card.dirty = true;
        window.Plotly?.purge(card.plot);
        delete card.plot.dataset.live;
        card.load();
      }
    }
  });
  document.addEventListener("change", event => {
    if (event.target.matches("[data-same-axes]")) redraw();
    if (event.target.matches("input[data-group]")) toggleGroup(event.target.dataset.group);
  });
  addEventListener("figuredrawn", () => {
    const drag = document.querySelector("[data-drag]");
    if (!drag) return;
    drag.hidden = false;
    const mode = [...cards.values()][0].figure.layout.dragmode;
    document.querySelector(`[data-mode="${mode}"]`)?.setAttribute("aria-pressed", "true");
  });
}

// The section bar shows which figure is in view.
const links = new Map([...document.querySelectorAll(".sections a")].map(link => [link.hash.slice(1), link]));
if (links.size) {
  const seen = new IntersectionObserver(
    entries => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const [name, link] of links) {
          if (name === entry.target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-25% 0px -70% 0px" },
  );
  for (const name of links.keys()) if (document.getElementById(name)) seen.observe(document.getElementById(name));
}

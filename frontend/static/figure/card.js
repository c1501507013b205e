// A figure on the page: loaded when it is near the viewport, drawn one a frame, redrawn with Plotly.react so that zoom
// stays. States other than "ready" are said in words.

import { theme } from "../app.js";
import { current, solutionsHere } from "../chosen.js";
import { alignAxes, alignColours, fitted, keepInside, partNames, zoomed } from "./axes.js";
import { showAbsent, showCaption, showPanels, showRefusal, showState } from "./caption.js";
import { ask, askAtOnce, comparing, library, seen } from "./cards.js";
import { compose, standIns } from "./compose.js";
import { decode } from "./decode.js";
import { listenToKeys, listenToPlot } from "./linked.js";
import { listenToTools, nameTools } from "./tools.js";
import { saveImage } from "./image.js";
import { showSteps } from "./steps.js";
import { hasWebGL, many, turnByKeys } from "./webgl.js";

const REST = 150; // ms without scrolling, after which drawing goes on
const PAPER = 656; // px: A4 and Letter without their margins, and those of a card
const HALF = 396 - 48 * comparing; // px: half of it
const coarse = matchMedia("(pointer: coarse)").matches; // a finger scrolls; a switch in the legend lets it select

export class Card {
  constructor(element) {
    this.element = element;
    this.name = element.dataset.figure;
    this.needs = element.dataset.needs.split(" ");
    this.options = element.dataset.options.split(" ");
    this.plot = element.querySelector(".plot");
    this.figure = null;
    this.near = false;
    this.dirty = true;
    this.failures = 0;
    this.panel = null;
    this.dragMode = null; // what its buttons chose
    this.until = null; // the step up to which it is shown, null for all of it
    this.playing = 0;
    if (!comparing) listenToKeys(this);
    listenToTools(this.plot);
    if ("webgl" in element.dataset) turnByKeys(this);
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
    return this.options.includes("method");
  }

  url() {
    const asked = new URLSearchParams(this.element.dataset.query ?? ""); // of a report's figure, or which are compared
    asked.set("theme", theme());
    for (const [key, value] of new URL(location.href).searchParams) {
      // Where several are compared, `e` names experiments, and not every one has the groups that the legend shows.
      if (this.options.includes(key) && !(comparing && ["e", "method"].includes(key))) asked.set(key, value);
    }
    if (this.options.includes("size") && this.element.dataset.size) asked.set("size", this.element.dataset.size);
    if (this.options.includes("points") && hasWebGL()) asked.set("points", "all");
    if (this.options.includes("panel") && this.panel) asked.set("panel", this.panel);
    return `${this.element.dataset.src}.json?${asked}`;
  }

  reload() {
    this.dirty = true;
    return this.load();
  }

  async load() {
    if (!this.near || !this.dirty || this.element.classList.contains("folded")) return;
    this.dirty = false;
    library().catch(() => {}); // comes meanwhile; who draws hears of it
    let answer;
    try {
      answer = await ask(this.url());
    } catch {
      return this.again();
    }
    this.failures = 0;
    if (answer.status !== 200) return showRefusal(this, answer.status, answer.document_);
    const figure = decode(answer.document_);
    const { panels = [], narrow = 560 } = figure.layout.meta ?? {};
    if (this.element.clientWidth < narrow && panels.length && !this.panel) {
      this.panel = panels.at(-1);
      showPanels(this, panels);
      return this.reload();
    }
    this.show(figure);
    drawNextFrame(this);
  }

  again() {
    const seconds = Math.min(32, 2 ** ++this.failures);
    showState(this, `Connection lost, trying again in ${seconds} s`);
    this.dirty = true;
    setTimeout(() => this.load(), seconds * 1000);
  }

  show(figure) {
    this.figure = { ...figure, data: many(figure.data), until: this.until };
    showCaption(this, figure.words);
    showSteps(this);
  }

  async draw() {
    if (!this.figure) return;
    let Plotly;
    try {
      Plotly = await library();
    } catch {
      return this.again();
    }
    await this.render(Plotly);
  }

  /** What is seen of the figure now, with its zoom. */
  composed() {
    const { marked, absent } = standIns(this.figure, current(), solutionsHere());
    showAbsent(this, absent, marked);
    const { data, layout } = compose(this.figure, marked, seen);
    const dragmode = comparing ? "zoom" : (this.dragMode ?? (coarse ? (seen.selecting ? "lasso" : false) : layout.dragmode));
    return { data, layout: { ...layout, ...zoomed(this.name, layout, new URL(location.href).searchParams), dragmode } };
  }

  async render(Plotly, more = {}) {
    this.part("wait").hidden = true;
    this.plot.hidden = false;
    const { data, layout } = this.composed();
    layout.height = fitted(layout, more.width ?? this.plot.clientWidth);
    Object.assign(layout, more);
    this.plot.style.minHeight = `${layout.height}px`; // what was reserved may have been more
    await Plotly.react(this.plot, data, layout, {
      displaylogo: false,
      showSendToCloud: false,
      responsive: true,
      doubleClickDelay: coarse ? 0 : 300, // Plotly looks at time, not at place
      modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud", "autoScale2d", "toImage"],
      modeBarButtonsToAdd: [{ name: "picture", title: "Download as PNG", icon: Plotly.Icons.camera, click: () => saveImage(this, this.name, "png") }],
    });
    nameTools(this.plot);
    alignAxes(this.name);
    alignColours(this.name);
    partNames(this.plot);
    keepInside(this.plot);
    if (this.plot.dataset.live) return;
    this.plot.dataset.live = "1";
    listenToPlot(this);
    if (this.figure.layout.meta?.tall) new ResizeObserver(() => this.draw()).observe(this.element); // as high as it is wide
    dispatchEvent(new CustomEvent("figuredrawn", { detail: this.name }));
  }

  /** At once and as wide as paper; a figure that is not here yet, or was drawn for another ground, is waited for. */
  print() {
    if (this.element.classList.contains("folded")) return;
    const { panel } = this;
    this.panel = null;
    const { status, document_ } = askAtOnce(this.url());
    this.panel = panel;
    if (status !== 200) return showRefusal(this, status, document_);
    this.show(decode(document_));
    this.figure.until = null;
    const room = HALF - 20 * this.element.querySelectorAll(".beside :is(tr, p)").length;
    this.render(window.Plotly, { width: PAPER, height: Math.max(264, Math.min(fitted(this.figure.layout, PAPER), room)), autosize: false });
  }
}

// One drawing a frame, so that the page answers while figures come in, and none while it is scrolled: a drawing takes longer
// than a frame may.
const waiting = [];
let isDrawing = false;
let scrolled = -REST;
globalThis.addEventListener?.("scroll", () => (scrolled = performance.now()), { passive: true, capture: true });

function drawNextFrame(card) {
  if (!waiting.includes(card)) waiting.push(card); // it is drawn with what it has by then
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(drawWaiting);
}

async function drawWaiting() {
  const rest = REST - (performance.now() - scrolled);
  if (rest > 0) return setTimeout(drawWaiting, rest);
  try {
    await waiting.shift().draw();
  } finally {
    isDrawing = waiting.length > 0;
    if (isDrawing) requestAnimationFrame(drawWaiting);
  }
}

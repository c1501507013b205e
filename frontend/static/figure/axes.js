// Axes: zoom belongs to the URL, per figure by name (plane.x=.5,.8); the same figure of several experiments gets axes that
// hold all of them; names at the ends of curves stay apart.

import { cards, changeAddress } from "./cards.js";
import { AXIS } from "./compose.js";

const NAME_GAP = 15; // px, as drawing/style.py
export const axisKey = id => `${id[0]}axis${id.slice(1)}`;
let aligning = false;

/** @param {string} name of the figure @param {object} layout @param {URLSearchParams} asked @returns {object} the axes that are zoomed */
export function zoomed(name, layout, asked) {
  const found = {};
  for (const axis of ["x", "y"]) {
    const range = (asked.get(`${name}.${axis}`) ?? "").split(",").map(Number);
    if (range.length === 2 && range.every(Number.isFinite)) found[`${axis}axis`] = { ...layout[`${axis}axis`], range, autorange: false };
  }
  return found;
}

/** What a change that Plotly tells of asks of an axis: a range, null for all of it, or undefined for nothing.
 * @param {"x" | "y"} axis @returns {(number | string)[] | null | undefined} */
export function rangeAsked(axis, change) {
  const key = `${axis}axis.range`;
  const range = change[key] ?? (`${key}[0]` in change ? [change[`${key}[0]`], change[`${key}[1]`]] : null);
  if (range) return range.map(value => (typeof value === "number" ? +value.toPrecision(4) : value));
  return change[`${axis}axis.autorange`] || change[`${axis}axis.showspikes`] === false ? null : undefined;
}

export function rememberZoom(card, change) {
  if (aligning) return;
  const isNew = changeAddress(parameters => {
    for (const axis of ["x", "y"]) {
      const range = rangeAsked(axis, change);
      if (range === undefined) continue;
      const name = `${card.name}.${axis}`;
      if (range) parameters.set(name, range.join());
      else parameters.delete(name);
      for (const field of document.getElementsByName(name)) field.value = range ?? "";
    }
  });
  if (!isNew) return;
  for (const other of cards.values()) if (other !== card && other.name === card.name && other.plot.dataset.live) other.draw();
  alignAxes(card.name);
}

/** Axes that hold all of the plots, while nobody has zoomed. @param {string} name of the figure */
export async function alignAxes(name) {
  const plots = [...cards.values()].filter(card => card.name === name && card.plot._fullLayout).map(card => card.plot);
  const asked = new URL(location.href).searchParams;
  if (aligning || plots.length < 2 || !document.querySelector("[data-same-axes]")?.checked) return;
  if (asked.has(`${name}.x`) || asked.has(`${name}.y`)) return;
  const shared = sharedRanges(plots.map(measuredRanges));
  aligning = true;
  try {
    for (const plot of plots) {
      const own = Object.entries(shared).filter(([key]) => plot._fullLayout[key]);
      await window.Plotly.relayout(plot, Object.fromEntries(own.map(([key, range]) => [`${key}.range`, range])));
      partNames(plot);
    }
  } finally {
    aligning = false;
  }
}

/** Colour scales that hold the values of all maps of the figure. @param {string} name of the figure */
export async function alignColours(name) {
  const plots = [...cards.values()].filter(card => card.name === name && card.plot._fullData).map(card => card.plot);
  if (plots.length < 2 || !document.querySelector("[data-same-axes]")?.checked) return;
  const shared = sharedScales(plots.map(plot => plot._fullData));
  for (const plot of plots) {
    for (const [index, [zmin, zmax]] of Object.entries(shared)) {
      const map = plot._fullData[index];
      if (!map || (map.zmin === zmin && map.zmax === zmax)) continue;
      const ends = plots.some(other => other._fullData[index]?.zmax === zmax && other._fullData[index].colorbar?.ticktext?.at(-1)?.startsWith("≥"));
      const bar = map.showscale ? { "colorbar.tickvals": [[zmin, zmax]], "colorbar.ticktext": [[short(zmin), `${ends ? "≥ " : ""}${short(zmax)}`]] } : {};
      await window.Plotly.restyle(plot, { zmin, zmax, zauto: false, ...bar }, [Number(index)]);
    }
  }
}

const short = value => `${+value.toPrecision(3)}`.replace(/^(-?)0\./, "$1.").replace("-", "−");

/** By the place of each map among a figure's traces, what holds its scales in all plots.
 * @param {object[][]} figures traces of each @returns {Record<string, [number, number]>} */
export function sharedScales(figures) {
  const found = {};
  figures.flatMap(traces => traces.map((trace, index) => ({ trace, index }))).forEach(({ trace, index }) => {
    if (!["heatmap", "contour"].includes(trace.type) || !(trace.zmin < trace.zmax)) return;
    const [low, high] = found[index] ?? [trace.zmin, trace.zmax];
    found[index] = [Math.min(low, trace.zmin), Math.max(high, trace.zmax)];
  });
  return found;
}

/** The range of each axis of a plot, null for one that must not be shared. */
function measuredRanges(plot) {
  const keys = Object.keys(plot._fullLayout).filter(key => AXIS.test(key));
  return Object.fromEntries(keys.map(key => [key, measuredRange(plot, key)]));
}

/** Cells of heat maps are counted, not measured; axes without numbers mean nothing; turned ones keep their own way. */
function measuredRange(plot, key) {
  const id = key.replace("axis", "");
  const { type, range, visible } = plot._fullLayout[key];
  const over = plot._fullData.filter(trace => [trace.xaxis, trace.yaxis].includes(id));
  const isMeasured = visible && ["linear", "log"].includes(type) && range[0] < range[1] && over.every(trace => ["scatter", "bar"].includes(trace.type));
  return isMeasured ? range : null;
}

/** What holds the ranges of all plots that have the axis; without the axes of which one is null.
 * @param {Record<string, [number, number] | null>[]} plots @returns {Record<string, [number, number]>} */
export function sharedRanges(plots) {
  const found = {};
  for (const key of new Set(plots.flatMap(Object.keys))) {
    const ranges = plots.filter(plot => key in plot).map(plot => plot[key]);
    if (ranges.every(Boolean)) found[key] = [Math.min(...ranges.map(range => range[0])), Math.max(...ranges.map(range => range[1]))];
  }
  return found;
}

/** Names at the ends of curves stay apart when a zoom, or another experiment's axes, move the ends. */
export function partNames(plot) {
  const layout = plot._fullLayout;
  const isInside = (axis, at) => axis.l2p(at) >= -0.5 && axis.l2p(at) <= axis._length + 0.5;
  const ends = (layout.annotations ?? [])
    .map((label, index) => ({ label, index, x: layout[axisKey(label.xref)], y: layout[axisKey(label.yref)] }))
    .filter(({ label, x, y }) => label.name === "end" && isInside(x, label.x) && isInside(y, label.y));
  const change = {};
  for (const axis of new Set(ends.map(end => end.y))) {
    const beside = ends.filter(end => end.y === axis);
    const wanted = beside.map(({ label }) => axis.l2p(label.y));
    const placed = apart(wanted, NAME_GAP * Math.max(...beside.map(({ label }) => label.text.split("<br>").length)));
    const over = Math.max(0, Math.max(...placed) - axis._length);
    beside.forEach(({ label, index }, i) => {
      const ay = placed[i] - over - wanted[i];
      if (Math.abs(ay - label.ay) > 0.2) change[`annotations[${index}].ay`] = ay;
    });
  }
  if (Object.keys(change).length) window.Plotly.relayout(plot, change);
}

/** Names that would be cut at a side of a narrow picture are moved in, as far as they must be. */
export function keepInside(plot) {
  const box = plot.getBoundingClientRect();
  const change = {};
  for (const label of plot.querySelectorAll(".annotation")) {
    const own = label.querySelector(".annotation-text-g").getBoundingClientRect();
    const over = inward(own.left - box.left, own.right - box.left, plot.clientWidth);
    const { index } = label.dataset;
    const now = plot._fullLayout.annotations[index];
    const key = now.showarrow ? "ax" : "xshift";
    if (over) change[`annotations[${index}].${key}`] = now[key] + over;
  }
  if (Object.keys(change).length) return window.Plotly.relayout(plot, change);
}

/** px by which what lies between left and right must be moved to lie between 0 and width; by its left end if it is wider.
 * @param {number} left @param {number} right @param {number} width */
export function inward(left, right, width) {
  if (left < 0) return -left;
  return right > width ? Math.max(width - right, -left) : 0;
}

/** The positions moved as little as needed to be `gap` apart: runs of meeting ones share their mean place.
 * @param {number[]} positions @param {number} gap @returns {number[]} */
export function apart(positions, gap) {
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

/** px of height that a picture needs when it is so wide, as drawing/frame.py: of maps no more than they fill.
 * @param {object} layout @param {number} width */
export function fitted({ height, margin, meta }, width) {
  if (!meta?.tall) return height;
  return Math.min(height, margin.t + margin.b + Math.ceil(meta.tall * (width - margin.l - margin.r)));
}

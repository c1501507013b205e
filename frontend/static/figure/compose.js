// A figure as it is to be seen: the legend's filter, then the selection. Pure.

import { marks } from "../selection.js";
import { indexOf, indicesIn } from "./decode.js";

const FADED = 0.3; // opacity of what is not chosen
export const AXIS = /^[xy]axis\d*$/;

/** What to mark in a figure for the chosen solutions; nothing stands for others where a figure shows no solutions.
 * @param {number[]} chosen @param {Map<number, object> | null} known what is known of each solution, null before it is here
 * @returns {{marked: number[], absent: number[]}} */
export function standIns(figure, chosen, known) {
  figure.indices ??= indicesIn(figure);
  if (!chosen.length || !known || !figure.indices.size) return { marked: chosen, absent: [] };
  return marks(chosen, figure.indices, known);
}

/** @param {number[]} chosen indices of solutions to mark
 * @param {{hidden: Set<string>, only: boolean, comparing: boolean, ink: (name: string) => string}} seen
 * hidden: groups of the legend that are off; only: nothing but the chosen is shown; ink: a colour by its name */
export function compose(figure, chosen, seen) {
  const picked = new Set(chosen);
  const data = figure.data.map(trace => ({ ...trace, visible: isOn(trace, seen), ...upTo(trace, figure.until), ...accent(trace, picked, seen) }));
  // Plotly writes into the axes and labels it was given; the figure's own must stay as the server sent them.
  const annotations = (figure.layout.annotations ?? []).map(label => ({ ...label }));
  const layout = { ...figure.layout, annotations, shapes: [...(figure.layout.shapes ?? []), ...bands(figure, picked, seen.ink)] };
  if (seen.comparing) for (const key of Object.keys(layout).filter(key => AXIS.test(key))) layout[key] = { ...layout[key] };
  return { data, layout };
}

/** Whether the legend shows its group, and where several experiments lie over each other its experiment. */
const isOn = (trace, { hidden }) => !hidden.has(trace.legendgroup) && !hidden.has(trace.meta?.experiment);

/** Without the points that come at a later step; those that stay keep their places among the others. */
function upTo(trace, until) {
  const at = trace.meta?.at;
  return until == null || !at ? {} : { y: Array.from(trace.y, (value, i) => (at[i] > until ? null : value)) };
}

/** What a selection changes of a trace. Heat maps are never faded: they get bands. */
function accent(trace, picked, { only, ink }) {
  if (!picked.size || trace.type === "heatmap") return {};
  if (!trace.customdata) return only && trace.legendgroup && !trace.showlegend ? { visible: false } : {};
  const chosen = Array.from(trace.customdata, custom => picked.has(indexOf(custom)));
  return String(trace.mode).includes("markers") ? { marker: accentMarks(trace.marker ?? {}, chosen, only, ink) } : accentLine(trace, chosen.some(Boolean), only);
}

function accentLine(trace, chosen, only) {
  return {
    opacity: chosen ? 1 : Math.min(FADED, trace.opacity ?? 1),
    line: { ...trace.line, width: (trace.line?.width ?? 1) * (chosen ? 2 : 1) },
    ...(only && !chosen ? { visible: false } : {}),
  };
}

function accentMarks(marker, chosen, only, ink) {
  const each = (value, i) => (value != null && typeof value === "object" ? value[i] : value);
  const hollow = String(each(marker.symbol, 0)).endsWith("-open");
  return {
    ...marker,
    opacity: chosen.map(yes => (yes ? 1 : only ? 0 : FADED)),
    size: chosen.map((yes, i) => (each(marker.size, i) ?? 7) + (yes ? 2 : 0)),
    line: {
      ...marker.line,
      width: chosen.map((yes, i) => (yes ? 1.5 : (each(marker.line?.width, i) ?? 0))),
      color: chosen.map((yes, i) => (yes && !hollow ? ink("text") : (each(marker.line?.color, i) ?? ink("card")))),
    },
  };
}

/** Outlined bands over the chosen rows and columns of every heat map: ink 2 px over card 5 px. */
function bands(figure, picked, ink) {
  const { rows, columns } = figure.layout.meta ?? {};
  if (!rows || !picked.size) return [];
  const chosen = indices => runs(indices.map(index => picked.has(index)));
  const boxes = [
    ...chosen(rows).map(([y0, y1]) => ({ y0: y0 - 0.5, y1: y1 + 0.5, x0: -0.5, x1: columns.length - 0.5 })),
    ...chosen(columns).map(([x0, x1]) => ({ x0: x0 - 0.5, x1: x1 + 0.5, y0: -0.5, y1: rows.length - 0.5 })),
  ];
  return figure.data
    .filter(trace => trace.type === "heatmap")
    .flatMap(trace => boxes.flatMap(box => [["card", 5], ["text", 2]].map(([name, width]) => ({
      type: "rect", xref: trace.xaxis ?? "x", yref: trace.yaxis ?? "y", ...box, line: { color: ink(name), width }, fillcolor: "rgba(0,0,0,0)",
    }))));
}

/** @param {boolean[]} flags @returns {[number, number][]} first and last index of each run of true */
export function runs(flags) {
  const found = [];
  for (let i = 0; i < flags.length; i++) {
    if (!flags[i]) continue;
    const first = i;
    while (flags[i + 1]) i++;
    found.push([first, i]);
  }
  return found;
}

// One selection in all plots: what Plotly tells of points, the same solution ringed elsewhere, and the keys.

import { choose, toggle } from "../selection.js";
import { current, describePoint, select } from "../chosen.js";
import { axisKey, partNames, rememberZoom } from "./axes.js";
import { element } from "./caption.js";
import { cards, comparing, seen } from "./cards.js";
import { indicesAt, solutionMarks } from "./decode.js";
import { listenToPointer } from "./light.js";

/** What Plotly reports; it exists only after the first drawing. @param {import("./card.js").Card} card */
export function listenToPlot(card) {
  const { plot } = card;
  let keys = {}; // Shift and Alt as the pointer was released: Plotly does not tell after a brush
  plot.on("plotly_relayout", change => {
    rememberZoom(card, change);
    if (Object.keys(change).some(key => key.includes("axis"))) partNames(plot);
  });
  if (card.figure.layout.meta?.lit) listenToPointer(card);
  if (comparing) return;
  const indices = event => [...new Set((event?.points ?? []).flatMap(point => indicesAt(point, card.figure)))];
  // A finger has neither Shift nor Alt: once it selects, it takes in and out.
  const chosen = (event, held) => select(seen.selecting ? toggle(current(), indices(event)) : choose(current(), indices(event), held));
  plot.on("plotly_click", event => chosen(event, event.event));
  plot.on("plotly_selected", event => {
    if (!event) return;
    chosen(event, keys);
    window.Plotly.relayout(plot, { selections: [] }); // the marks say what is chosen; the rectangle would stay behind
  });
  plot.on("plotly_hover", event => ring(indices(event)[0] ?? -1, card));
  plot.on("plotly_unhover", () => ring(-1, card));
  plot.on("plotly_deselect", () => select([]));
  plot.addEventListener("pointerup", event => (keys = { shiftKey: event.shiftKey, altKey: event.altKey }), true);
}

/** One stop for Tab: Enter goes in, arrows move between points by group then x, Space selects, Esc leaves. */
export function listenToKeys(card) {
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Enter: 0 };
  let at = -1;
  let isInside = false;
  card.plot.addEventListener("keydown", event => {
    if (event.target !== card.plot) return; // a button of the plot's own
    const marks = card.figure ? solutionMarks(card.figure, seen.hidden) : [];
    if (event.key === "Enter" && !isInside) isInside = marks.length > 0;
    else if (event.key === "Escape" && isInside) {
      isInside = false;
      window.Plotly?.Fx.unhover(card.plot);
      event.stopPropagation();
      return;
    }
    if (!isInside || (!(event.key in STEPS) && event.key !== " ")) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === " ") return select(choose(current(), [marks[at].index], event));
    at = Math.max(0, Math.min(marks.length - 1, Math.max(at, 0) + STEPS[event.key]));
    const { trace, point, index } = marks[at];
    window.Plotly.Fx.hover(card.plot, [{ curveNumber: trace, pointNumber: point }]);
    ring(index, card);
    describePoint(index).then(text => (document.querySelector("#announce").textContent = text));
  });
}

/** The same solution ringed in the other plots. @param {number} index -1 for none */
function ring(index, from) {
  for (const card of cards.values()) {
    card.ring?.remove();
    if (card === from || index < 0 || !card.plot?._fullLayout || !card.figure) continue;
    const mark = solutionMarks(card.figure, seen.hidden).find(mark => mark.index === index);
    if (mark) card.plot.append((card.ring = ringAt(card, mark)));
  }
}

function ringAt({ plot, figure }, { trace, point, x }) {
  const [xaxis, yaxis] = [plot._fullData[trace].xaxis, plot._fullData[trace].yaxis].map(id => plot._fullLayout[axisKey(id)]);
  const ring = element("i", { className: "ring", ariaHidden: "true" });
  ring.style.left = `${xaxis._offset + xaxis.l2p(x)}px`;
  ring.style.top = `${yaxis._offset + yaxis.l2p(figure.data[trace].y[point])}px`;
  return ring;
}

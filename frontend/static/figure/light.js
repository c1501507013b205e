// Of very many experiments on one picture all are grey, and the pointed one is lit: by its marks, or by its name in the
// legend.

import { cards } from "./cards.js";

const LIT = "e:"; // before an experiment's address, as drawing/overlay.py

/** @param {string | null} experiment the group of its traces; null for none */
export function light(experiment) {
  for (const { plot, figure } of cards.values()) {
    const colour = figure?.layout.meta?.lit;
    if (!colour || !plot?._fullData) continue;
    figure.data.forEach((trace, index) => {
      const isLit = experiment !== null && trace.meta?.experiment === experiment;
      const ink = isLit ? colour : (trace.line?.color ?? trace.marker?.color);
      const width = isLit ? 3 : trace.line?.width;
      if (plot.data[index].line?.color === ink || (!plot.data[index].line && plot.data[index].marker?.color === ink)) return;
      const change = { ...(trace.line && { "line.color": ink, "line.width": width }), ...(trace.marker && { "marker.color": ink }) };
      window.Plotly.restyle(plot, change, [index]);
    });
  }
}

/** @param {import("./card.js").Card} card */
export function listenToPointer(card) {
  card.plot.on("plotly_hover", event => light(event.points[0]?.data.meta?.experiment ?? null));
  card.plot.on("plotly_unhover", () => light(null));
}

for (const [on, off] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  const named = event => event.target.closest?.("button[data-group]")?.dataset.group;
  document.addEventListener(on, event => named(event)?.startsWith(LIT) && light(named(event)));
  document.addEventListener(off, event => named(event)?.startsWith(LIT) && light(null));
}

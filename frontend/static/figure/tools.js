// The buttons over a plot: one stop for Tab, arrows move among them. Its drawing is left out for screen readers, which are
// told what it shows by the plot's name and its table.

const buttons = plot => [...plot.querySelectorAll(".modebar-btn")];

/** After each drawing: Plotly makes its buttons anew. @param {HTMLElement} plot */
export function nameTools(plot) {
  for (const svg of plot.querySelectorAll(".svg-container > svg")) svg.setAttribute("aria-hidden", "true");
  plot.querySelector(".modebar")?.setAttribute("aria-label", "Tools of the plot");
  const all = buttons(plot);
  const stop = all.find(button => button === document.activeElement) ?? all[0];
  for (const button of all) button.tabIndex = button === stop ? 0 : -1;
}

/** @param {HTMLElement} plot */
export function listenToTools(plot) {
  const MOVES = { ArrowRight: i => i + 1, ArrowLeft: i => i - 1, Home: () => 0, End: () => -1 };
  plot.addEventListener("keydown", event => {
    const all = buttons(plot);
    const at = all.indexOf(event.target);
    if (at < 0 || !(event.key in MOVES)) return;
    event.preventDefault();
    const next = all.at(MOVES[event.key](at) % all.length);
    for (const button of all) button.tabIndex = button === next ? 0 : -1;
    next.focus();
  });
}

// Paper is white, and the browser waits for nobody once it prints: by then every figure must be drawn, in the light theme
// and as wide as paper. So the library comes when the page is idle, and the figures while the browser waits.

import { theme } from "../app.js";
import { cards, library } from "./cards.js";

const root = document.documentElement;
let before = null; // what the page was like

function dressForPaper() {
  if (before || !window.Plotly) return;
  before = { theme: root.dataset.theme, seen: theme() };
  root.dataset.theme = "light";
  for (const card of cards.values()) card.print();
}

function dressForScreen() {
  if (!before) return;
  if (before.theme) root.dataset.theme = before.theme;
  else delete root.dataset.theme;
  for (const card of cards.values()) {
    card.dirty ||= before.seen !== "light" || card.panel !== null;
    if (card.plot.dataset.live) card.draw();
    card.load();
  }
  before = null;
}

export async function print() {
  await library().catch(() => {}); // then without pictures
  window.print();
}

export function preparePrinting() {
  addEventListener("beforeprint", dressForPaper);
  addEventListener("afterprint", dressForScreen);
  if (cards.size) (window.requestIdleCallback ?? setTimeout)(() => library().catch(() => {}));
  document.addEventListener("keydown", event => {
    if (event.key !== "p" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    print();
  });
}

// A page with figures: which are near, what their buttons do, and what makes them load again.

import "../bar.js";
import { restore, solutions, subscribe } from "../chosen.js";
import { Card } from "./card.js";
import { cards, changeAddress, comparing, page, redraw, seen } from "./cards.js";
import { saveImage } from "./image.js";
import { readLegend, toggleGroup } from "./legend.js";
import { preparePrinting, print } from "./print.js";
import { hasWebGL } from "./webgl.js";
import { foldSections, markSections } from "./sections.js";

const first = () => [...cards.values()][0];

const observer = new IntersectionObserver(loadNear, { rootMargin: "100% 0px" }); // within one screen of the viewport

/** Of every figure on the page a card, and none of those that are gone. */
function observeCards() {
  for (const [name, card] of cards) {
    if (card.element.isConnected) continue;
    observer.unobserve(card.element);
    cards.delete(name);
  }
  for (const element of document.querySelectorAll("[data-webgl]")) element.hidden = !hasWebGL();
  for (const element of document.querySelectorAll("[data-figure]:has(.plot)")) {
    if (cards.has(element.id)) continue;
    cards.set(element.id, new Card(element));
    observer.observe(element);
  }
}

function loadNear(entries) {
  for (const entry of entries) {
    const card = cards.get(entry.target.id);
    if (!card) continue; // it left the page meanwhile
    card.near = entry.isIntersecting;
    card.load();
  }
}

function listenToPage() {
  addEventListener("themechange", () => cards.forEach(card => card.reload()));
  addEventListener("stagesdone", ({ detail: kinds }) => {
    for (const card of cards.values()) if (kinds.some(kind => card.needs.includes(kind))) card.reload();
  });
  addEventListener("pagechanged", () => {
    observeCards();
    readLegend();
    markSections();
  });
  addEventListener("onlythese", event => {
    seen.only = event.detail;
    redraw();
  });
  addEventListener("figuredrawn", showDragModes);
  document.addEventListener("change", event => {
    if (event.target.matches("[data-same-axes]")) redraw();
    if (event.target.matches("input[data-group]")) toggleGroup(event.target.dataset.group);
  });
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-image], button[data-group], [data-mode], [data-reset], [data-select], [data-print]");
    if (!button) return;
    if (button.href) event.preventDefault(); // the server's picture is for those without script
    press(button);
  });
}

function press(button) {
  const { image, of, group, mode } = button.dataset;
  if ("print" in button.dataset) print();
  else if ("select" in button.dataset) toggleSelecting(button);
  else if (image) saveImage(cards.get(of), of, image, Number(button.parentElement.querySelector("[data-px]")?.value));
  else if (group) toggleGroup(group);
  else if (mode) setDragMode(first(), mode);
  else resetZoom(first());
}

function toggleSelecting(button) {
  seen.selecting = !seen.selecting;
  button.setAttribute("aria-pressed", `${seen.selecting}`);
  redraw();
}

function setDragMode(card, mode) {
  card.dragMode = mode;
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", `${button.dataset.mode === mode}`);
  window.Plotly?.relayout(card.plot, { dragmode: mode });
}

function showDragModes() {
  const drag = document.querySelector("[data-drag]");
  if (!drag) return;
  drag.hidden = false;
  document.querySelector(`[data-mode="${first().figure.layout.dragmode}"]`)?.setAttribute("aria-pressed", "true");
}

function resetZoom(card) {
  changeAddress(parameters => ["x", "y"].forEach(axis => parameters.delete(`${card.name}.${axis}`)));
  window.Plotly?.purge(card.plot);
  delete card.plot.dataset.live;
  card.reload();
}

function followSelection() {
  let frame = 0;
  subscribe(async chosen => {
    if (chosen.length && !comparing) await solutions();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(redraw);
  });
  restore();
}

if (page) {
  readLegend();
  observeCards();
  listenToPage();
  followSelection();
  preparePrinting();
  if (document.querySelector("[data-fold-all]")) foldSections();
}
markSections();

// The figures of this page, and what is the same in all of them.

/** The element that names the experiment and its API; null where there is none. */
export const page = globalThis.document?.querySelector("[data-experiment]") ?? null;

// Solutions are numbered per experiment, so several of them side by side share zoom and legend but no selection.
export const comparing = page !== null && "compare" in page.dataset;

/** By the id of its element. @type {Map<string, import("./card.js").Card>} */
export const cards = new Map();

/** hidden: groups of the legend that are off; only: nothing but the selection is shown; selecting: a finger, which scrolls
 * the page, draws a selection */
export const seen = { hidden: new Set(), only: false, selecting: false, comparing, ink };

/** A colour of tokens.css in the theme seen. @param {string} name */
function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function redraw() {
  for (const card of cards.values()) if (card.plot?.dataset.live) card.draw();
}

/** This address with something changed; a history entry is not made of it. @param {(parameters: URLSearchParams) => void} change */
export function changeAddress(change) {
  const url = new URL(location.href);
  change(url.searchParams);
  if (url.href === location.href) return false;
  history.replaceState(history.state, "", url.href.replaceAll("%2C", ","));
  return true;
}

let plotly = null;
/** Plotly comes with the first figure, never with a page that has none. */
export function library() {
  plotly ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: page.dataset.plotly });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = undefined; // a server that was away then may be there now
      script.remove();
      reject(new Error("Plotly could not be loaded"));
    };
    document.head.append(script);
  });
  return plotly;
}

const HEADERS = { Accept: "application/json", Prefer: "respond-async" };

/** The server's answer and the document in it. @param {string} url */
export async function ask(url) {
  const answer = await fetch(url, { headers: HEADERS });
  return { status: answer.status, document_: await answer.json() };
}

/** The same while the browser waits, as it does for nothing else once it prints. @param {string} url */
export function askAtOnce(url) {
  const request = new XMLHttpRequest();
  request.open("GET", url, false);
  for (const [name, value] of Object.entries(HEADERS)) request.setRequestHeader(name, value);
  request.send();
  return { status: request.status, document_: JSON.parse(request.responseText) };
}

// Single examples: a plot and a table in one selection. A box or a click in the plot asks for the table's rows anew, ticked
// rows are ringed in the plot. Both stand in the address: conditions on the numbers, `sel=12`, `marked=12-40,77`.

import { ask, library, seen } from "./figure/cards.js";
import { decode, encode, toggle } from "./selection.js";

const plot = document.querySelector("[data-points]");
const { x: X, y: Y } = plot?.dataset ?? {};
const BOUNDS = [`${X}__gte`, `${X}__lte`, `${Y}__gte`, `${Y}__lte`];
const NOT_OF_POINTS = [...BOUNDS, "sel", "sort", "cursor", "limit", "marked"];
const AGAIN = 4000; // ms until a server that did not answer is asked again
let points = null;
let drawn = 0;
let marked = decode(new URL(location.href).searchParams.get("marked"));

const rows = () => [...document.querySelectorAll("#found [data-index]")].map(row => Number(row.dataset.index));

/** The points of this question, whatever the box. */
async function load() {
  const asked = new URL(location.href).searchParams;
  for (const name of NOT_OF_POINTS) asked.delete(name);
  asked.set("set", plot.dataset.set);
  asked.set("x", X);
  asked.set("y", Y);
  asked.set("with", encode([...rows(), ...marked].slice(0, 400)));
  const answer = await ask(`${plot.dataset.points}?${asked}`).catch(() => {});
  if (!answer) return setTimeout(load, AGAIN);
  const { status, document_ } = answer;
  const wait = plot.querySelector("[data-points-wait]");
  if (status !== 200) return void (wait && (wait.textContent = document_.detail ?? "The points could not be loaded"));
  wait?.remove();
  points = document_;
  const some = points.shown < points.total ? `${points.shown.toLocaleString("en")} of ` : "";
  document.querySelector("[data-points-said]").textContent = `${some}${points.total.toLocaleString("en")} images are shown.`;
  draw();
}

/** Those points for which `is` holds, as one trace. */
function trace(name, marker, is) {
  const chosen = points.index.map((_, i) => i).filter(is);
  const at = values => chosen.map(i => values[i]);
  return {
    type: "scatter", mode: "markers", name, marker, selectedpoints: null, x: at(points.x.values), y: at(points.y.values), customdata: at(points.index),
    hovertemplate: `image %{customdata}<br>${points.x.words} %{x:.3f}<br>${points.y.words} %{y:.3f}<extra>${name}</extra>`,
  };
}

function traces() {
  const { index, wrong } = points;
  const [onPage, ringed] = [new Set(rows()), new Set(marked)];
  const faint = { size: 5, opacity: 0.5, color: seen.ink("muted") };
  const open = (colour, size, width) => ({ size, symbol: "circle-open", color: seen.ink(colour), line: { width } });
  const found = [trace(wrong ? "right" : "image", faint, i => !wrong?.[i])];
  if (wrong) found.push(trace("wrong", { size: 6, symbol: "x-thin", line: { width: 1.5, color: seen.ink("failed") } }, i => wrong[i]));
  found.push(trace("in the table", open("link", 9, 1.5), i => onPage.has(index[i])));
  found.push(trace("ticked", open("text", 14, 2.5), i => ringed.has(index[i])));
  return found;
}

function axis(title) {
  const line = seen.ink("hairline");
  return { title: { text: title }, gridcolor: line, linecolor: line, zeroline: false, color: seen.ink("muted"), automargin: true };
}

async function draw() {
  if (!points) return;
  const Plotly = await library().catch(() => {});
  if (!Plotly) return setTimeout(draw, AGAIN);
  const layout = {
    height: 360, margin: { l: 48, r: 12, t: 8, b: 44 }, dragmode: "select", hovermode: "closest", uirevision: `${X} ${Y}`, selectionrevision: ++drawn,
    hoverlabel: { bgcolor: seen.ink("card"), bordercolor: seen.ink("control"), font: { color: seen.ink("text") } },
    paper_bgcolor: seen.ink("card"), plot_bgcolor: seen.ink("card"), font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: seen.ink("text") },
    xaxis: axis(points.x.words), yaxis: axis(points.y.words), legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, showlegend: true,
  };
  await Plotly.react(plot, traces(), layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "autoScale2d", "toImage"] });
  if (plot.dataset.live) return;
  plot.dataset.live = "1";
  plot.on("plotly_selected", event => event?.range && chooseBox(event.range));
  plot.on("plotly_click", event => choosePoint(event.points[0].customdata, event.event));
}

function chooseBox({ x, y }) {
  const ends = [x, y].flatMap(two => two.map(Number).sort((a, b) => a - b));
  show(asked => {
    BOUNDS.forEach((name, i) => asked.set(name, `${ends[i]}`));
    asked.delete("sel");
  });
  window.Plotly.relayout(plot, { selections: [] }); // the table says what was chosen
}

function choosePoint(index, keys) {
  show(asked => {
    const before = keys?.shiftKey ? decode(asked.get("sel")) : [];
    asked.set("sel", encode(toggle(before, [index])));
    for (const name of BOUNDS) asked.delete(name);
  });
}

/** This address with something changed, and the table of it. @param {(asked: URLSearchParams) => void} change */
async function show(change) {
  const url = new URL(location.href);
  change(url.searchParams);
  url.searchParams.delete("cursor");
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["#asked", "#found"]) document.querySelector(part).replaceChildren(...page.querySelector(part).childNodes);
  history.pushState(null, "", url.href.replaceAll("%2C", ","));
  tick();
  const count = document.querySelector("#found [data-total]")?.textContent;
  document.querySelector("#announce").textContent = `${count} in the table`;
  await load(); // the rows of the table are among the points
}

/** The boxes of the rows that are marked. */
function tick() {
  for (const box of document.querySelectorAll("input[name=mark]")) box.checked = marked.includes(Number(box.value));
  document.querySelector("[data-marked]").textContent = marked.length ? `${marked.length} ticked` : "";
}

function mark(event) {
  if (event.target.name !== "mark") return;
  marked = toggle(marked, [Number(event.target.value)]);
  const url = new URL(location.href);
  if (marked.length) url.searchParams.set("marked", encode(marked));
  else url.searchParams.delete("marked");
  history.replaceState(history.state, "", url.href.replaceAll("%2C", ","));
  tick();
  draw();
}

if (plot) {
  document.addEventListener("change", mark);
  addEventListener("popstate", () => location.reload());
  addEventListener("themechange", draw);
  tick();
  load();
} else {
  addEventListener("stagesdone", ({ detail: kinds }) => kinds.includes("examples") && location.reload());
}

// The bar at the bottom: what is selected, and what can be done with it.

import { copy, notify } from "./app.js";
import { COLUMNS, current, percent, select, solutions, subscribe } from "./chosen.js";
import { cutsThrough, describe, encode } from "./selection.js";

const bar = document.querySelector("#selection");
const api = document.querySelector("[data-experiment]")?.dataset.api;

async function show(indices) {
  bar.hidden = !indices.length;
  document.documentElement.style.setProperty("--foot", indices.length ? `${bar.offsetHeight + 32}px` : "");
  if (!indices.length) return showOnly(false);
  bar.querySelector("[data-count]").textContent = `${indices.length} solution${indices.length > 1 ? "s" : ""} selected`;
  const cuts = cutsThrough(indices.length);
  const offered = bar.querySelector("[data-cuts]"); // not of an ensemble whose networks are not here
  if (offered) offered.hidden = !cuts.length;
  for (const button of bar.querySelectorAll("[data-cut]")) button.hidden = !cuts.includes(button.dataset.cut);
  const { groups, accuracy } = describe(indices, await solutions());
  if (indices !== current()) return;
  bar.querySelector("[data-groups]").replaceChildren(...groups.map(groupItem));
  bar.querySelector("[data-range]").textContent = accuracy ? `accuracy ${percent(accuracy[0])} to ${percent(accuracy[1])}` : "";
}

/** How many of a group, with its symbol of the legend. */
function groupItem([group, count]) {
  const item = Object.assign(document.createElement("span"), { className: "row" });
  const legend = document.querySelector(`[data-group="${CSS.escape(group)}"]`);
  const symbol = legend?.querySelector(".sym") ?? legend?.parentElement.querySelector(".sym");
  item.append(...(symbol ? [symbol.cloneNode(true)] : []), `${group} ${count}`);
  return item;
}

/** Whether the plots show nothing but the selection. @param {boolean} on */
function showOnly(on) {
  const button = bar.querySelector("[data-only]");
  if (button.getAttribute("aria-pressed") === `${on}`) return;
  button.setAttribute("aria-pressed", `${on}`);
  dispatchEvent(new CustomEvent("onlythese", { detail: on }));
}

async function showTable() {
  const all = await solutions();
  const names = COLUMNS.split(",");
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  const { unit } = document.querySelector("[data-experiment]").dataset;
  for (const name of names) {
    const textContent = name === "run" ? unit || name : name;
    head.append(Object.assign(document.createElement("th"), { textContent, scope: "col" }));
  }
  const body = table.createTBody();
  for (const index of current()) {
    const row = body.insertRow();
    for (const name of names) row.insertCell().textContent = cellText(all.get(index)?.[name]);
  }
  document.querySelector("#selected [data-rows]").replaceChildren(table);
  document.querySelector("#selected").showModal();
}

function cellText(value) {
  if (value == null) return "–";
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : value;
}

/** Has the cut computed, and opens the figure that it will fill. */
async function cut(kind) {
  const body = JSON.stringify({ kind, solutions: current() });
  const answer = await fetch(`${api}/planes`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const { page, detail } = await answer.json();
  if (answer.ok) location.assign(page);
  else notify(detail);
}

function press(button) {
  if ("clear" in button.dataset) select([]);
  else if ("only" in button.dataset) showOnly(button.getAttribute("aria-pressed") !== "true");
  else if ("table" in button.dataset) showTable();
  else if (button.dataset.cut) cut(button.dataset.cut);
  else copy(`${location.origin}${api}/solutions?sel=${encode(current())}`, "API query copied");
}

if (bar) {
  bar.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button) press(button);
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !event.defaultPrevented && !event.target.closest("dialog, input, select, textarea")) select([]);
  });
  subscribe(show);
}

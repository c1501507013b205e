// Which solutions are chosen: sorted arrays of numbers, changed only by the pure functions below, one per page.
// In the URL a selection is `sel=12-40,77`; everything that shows solutions subscribes.

/** @param {Iterable<number>} numbers @returns {number[]} sorted, each once */
export const tidy = numbers => [...new Set(numbers)].sort((a, b) => a - b);

/** Ranges of solution numbers. @param {number[]} numbers @returns {string} such as "12-40,77" */
export function encode(numbers) {
  const parts = [];
  const sorted = tidy(numbers);
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i++;
    parts.push(sorted[i] === first ? `${first}` : `${first}-${sorted[i]}`);
  }
  return parts.join(",");
}

/** What is not a number or a range is left out; ranges are cut at a million so that no link can hang a tab.
 * @param {string | null} text @returns {number[]} */
export function decode(text) {
  const numbers = [];
  for (const part of (text || "").split(",")) {
    const match = /^\s*(\d{1,7})(?:-(\d{1,7}))?\s*$/.exec(part);
    if (!match) continue;
    const last = Number(match[2] ?? match[1]);
    for (let n = Number(match[1]); n <= last && numbers.length < 1e6; n++) numbers.push(n);
  }
  return tidy(numbers);
}

/** @param {number[]} chosen @param {number[]} more */
export const add = (chosen, more) => tidy([...chosen, ...more]);

/** @param {number[]} chosen @param {number[]} less */
export const remove = (chosen, less) => {
  const gone = new Set(less);
  return chosen.filter(n => !gone.has(n));
};

/** All of them in: all out. Otherwise: all in. @param {number[]} chosen @param {number[]} some */
export const toggle = (chosen, some) => {
  const now = new Set(chosen);
  return some.length && some.every(n => now.has(n)) ? remove(chosen, some) : add(chosen, some);
};

/** What a click or a brush over `some` makes of `chosen`: Shift adds, Alt removes, else it replaces; the same again clears.
 * @param {number[]} chosen @param {number[]} some @param {{shiftKey?: boolean, altKey?: boolean}} [keys] */
export function choose(chosen, some, keys = {}) {
  if (keys.altKey) return remove(chosen, some);
  if (keys.shiftKey) return add(chosen, some);
  return encode(chosen) === encode(some) ? [] : tidy(some);
}

/** @param {number[]} chosen @param {Map<number, {method?: string | null, role?: string, accuracy?: number | null}>} solutions
 * @returns {{groups: [string, number][], accuracy: [number, number] | null}} counts by method or role, and the range of accuracy */
export function describe(chosen, solutions) {
  const groups = new Map();
  const accuracies = [];
  for (const n of chosen) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const name = kindOf(solution);
    groups.set(name, (groups.get(name) || 0) + 1);
    if (solution.accuracy != null) accuracies.push(solution.accuracy);
  }
  const range = accuracies.length ? /** @type {[number, number]} */ ([Math.min(...accuracies), Math.max(...accuracies)]) : null;
  return { groups: [...groups], accuracy: range };
}

/** Which cuts through the landscape go through that many solutions. @param {number} count @returns {string[]} */
export const cutsThrough = count => ({ 2: ["radial", "line"], 3: ["affine"] })[count] ?? [];

// The page's one selection.

/** @type {number[]} */
let chosen = [];
/** @type {((numbers: number[]) => void)[]} */
const listeners = [];
const LONGEST = 1500; // characters of `sel` in a URL; longer ones are kept by the server under a short key

export const current = () => chosen;

/** @param {(numbers: number[]) => void} listener called now and at every change */
export function subscribe(listener) {
  listeners.push(listener);
  listener(chosen);
}

/** @param {number[]} numbers */
export function set(numbers) {
  if (encode(numbers) === encode(chosen)) return;
  chosen = tidy(numbers);
  for (const listener of listeners) listener(chosen);
  write();
}

let writes = 0;
async function write() {
  const turn = ++writes;
  let text = encode(chosen);
  const api = document.querySelector("[data-experiment]")?.dataset.api;
  if (text.length > LONGEST && api) {
    const answer = await fetch(`${api}/selections`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ numbers: text }) });
    text = answer.ok ? `@${(await answer.json()).key}` : text;
  }
  if (turn !== writes) return; // a newer selection is already being written
  const url = new URL(location.href);
  if (text) url.searchParams.set("sel", text);
  else url.searchParams.delete("sel");
  history.replaceState(history.state, "", url.href.replaceAll("%2C", ","));
}

/** Take the selection from the URL, once. */
export async function restore() {
  const text = new URL(location.href).searchParams.get("sel") || "";
  const api = document.querySelector("[data-experiment]")?.dataset.api;
  if (text.startsWith("@") && api) {
    const answer = await fetch(`${api}/selections/${encodeURIComponent(text.slice(1))}`);
    if (answer.ok) set((await answer.json()).numbers);
  } else set(decode(text));
}

// What is known of each solution, asked for once.

/** @type {Promise<Map<number, any>> | null} */
let known = null;
const COLUMNS = "number,run,role,method,set,epoch,accuracy,diversity,disagreement";

/** @returns {Promise<Map<number, any>>} */
export function solutions() {
  const api = document.querySelector("[data-experiment]").dataset.api;
  known ??= fetch(`${api}/solutions?format=ndjson&fields=${COLUMNS}`)
    .then(answer => answer.text())
    .then(text => (here = new Map(text.split("\n").filter(Boolean).map(line => JSON.parse(line)).map(row => [row.number, row]))));
  return known;
}

/** The same, as far as it is here: null before it was asked for. @type {Map<number, any> | null} */
let here = null;
export const solutionsHere = () => here;

const kindOf = solution => solution.method || (solution.role === "optimum" ? "independent" : "trajectory");

/** What stands for the chosen solutions in a picture that does not show all of them: those of the same run and method,
 * else the run's optimum, else its checkpoints.
 * @param {number[]} chosen @param {Set<number>} shown numbers in the picture
 * @param {Map<number, {run: number, method?: string | null, role?: string}>} solutions
 * @returns {{marked: number[], absent: number[]}} absent: chosen ones that are not in the picture */
export function marks(chosen, shown, solutions) {
  const absent = chosen.filter(n => !shown.has(n));
  const marked = new Set(chosen.filter(n => shown.has(n)));
  /** @type {Map<string, number[]>} */
  const groups = new Map();
  for (const n of absent.length ? shown : []) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const key = `${solution.run}/${kindOf(solution)}`;
    groups.set(key, [...(groups.get(key) ?? []), n]);
  }
  for (const n of absent) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const kinds = [kindOf(solution), "independent", "trajectory"];
    const found = kinds.map(kind => groups.get(`${solution.run}/${kind}`)).find(Boolean);
    for (const stand of found ?? []) marked.add(stand);
  }
  return { marked: tidy(marked), absent };
}

const percent = value => (value == null ? "–" : `${(100 * value).toFixed(1)} %`);

/** One solution in words, for screen readers. @param {number} number */
export async function describePoint(number) {
  const s = (await solutions()).get(number);
  if (!s) return `solution ${number}`;
  return `${s.method || s.role}, run ${s.run}${s.epoch != null ? `, epoch ${s.epoch}` : ""}, accuracy ${percent(s.accuracy)}, disagreement with its optimum ${percent(s.disagreement)}`;
}

// The bar at the bottom.

const bar = globalThis.document?.querySelector("#selection");
if (bar) {
  const show = async numbers => {
    bar.hidden = !numbers.length;
    const plain = document.documentElement;
    plain.style.setProperty("scroll-padding-bottom", numbers.length ? "88px" : "");
    if (!numbers.length) {
      setOnly(false);
      return;
    }
    bar.querySelector("[data-count]").textContent = `${numbers.length} solution${numbers.length > 1 ? "s" : ""} selected`;
    const cuts = cutsThrough(numbers.length);
    bar.querySelector("[data-cuts]").hidden = !cuts.length;
    for (const button of bar.querySelectorAll("[data-cut]")) button.hidden = !cuts.includes(button.dataset.cut);
    const about = describe(numbers, await solutions());
    if (numbers !== chosen) return;
    const legend = group => document.querySelector(`[data-group="${CSS.escape(group)}"]`);
    bar.querySelector("[data-groups]").replaceChildren(
      ...about.groups.map(([group, n]) => {
        const item = document.createElement("span");
        item.className = "row";
        const symbol = (legend(group)?.querySelector(".sym") ?? legend(group)?.parentElement.querySelector(".sym"))?.cloneNode(true);
        item.append(...(symbol ? [symbol] : []), `${group} ${n}`);
        return item;
      }),
    );
    const range = about.accuracy;
    bar.querySelector("[data-range]").textContent = range ? `accuracy ${percent(range[0])} to ${percent(range[1])}` : "";
  };
  const setOnly = on => {
    const button = bar.querySelector("[data-only]");
    if (button.getAttribute("aria-pressed") === `${on}`) return;
    button.setAttribute("aria-pressed", `${on}`);
    dispatchEvent(new CustomEvent("onlythese", { detail: on }));
  };
  const table = async () => {
    const all = await solutions();
    const names = COLUMNS.split(",");
    const element = document.createElement("table");
    const head = element.createTHead().insertRow();
    for (const name of names) head.append(Object.assign(document.createElement("th"), { textContent: name, scope: "col" }));
    const body = element.createTBody();
    for (const n of chosen) {
      const row = body.insertRow();
      for (const name of names) {
        const value = all.get(n)?.[name];
        row.insertCell().textContent = value == null ? "–" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : value;
      }
    }
    document.querySelector("#selected [data-rows]").replaceChildren(element);
    document.querySelector("#selected").showModal();
  };
  /** Has the cut computed, and opens the figure that it will fill. */
  const cut = async kind => {
    const api = document.querySelector("[data-experiment]").dataset.api;
    const asked = { kind, solutions: chosen };
    const answer = await fetch(`${api}/planes`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });
    const told = await answer.json();
    if (answer.ok) location.assign(told.page);
    else (await import("./app.js")).say(told.detail);
  };
  bar.addEventListener("click", async event => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("clear" in button.dataset) set([]);
    else if ("only" in button.dataset) setOnly(button.getAttribute("aria-pressed") !== "true");
    else if ("table" in button.dataset) table();
    else if (button.dataset.cut) cut(button.dataset.cut);
    else {
      const { copy } = await import("./app.js");
      const api = document.querySelector("[data-experiment]").dataset.api;
      copy(`${location.origin}${api}/solutions?sel=${encode(chosen)}`, "API query copied");
    }
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !event.defaultPrevented && !event.target.closest("dialog, input, select, textarea")) set([]);
  });
  subscribe(show);
}

// The page's one selection, and what is known of each solution. In the URL a selection is `sel=12-40,77`, and everything
// that shows solutions subscribes.

import { decode, encode, tidy } from "./selection.js";

/** @type {number[]} */
let chosen = [];
/** @type {((indices: number[]) => void)[]} */
const listeners = [];
const LONGEST = 1500; // characters of `sel` in a URL; longer ones are kept by the server under a short key

export const current = () => chosen;

/** @param {(indices: number[]) => void} listener called now and at every change */
export function subscribe(listener) {
  listeners.push(listener);
  listener(chosen);
}

/** @param {number[]} indices */
export function select(indices) {
  if (encode(indices) === encode(chosen)) return;
  chosen = tidy(indices);
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
    if (answer.ok) select((await answer.json()).numbers);
  } else select(decode(text));
}

// What is known of each solution, asked for once.

/** @type {Promise<Map<number, any>> | null} */
let known = null;
export const COLUMNS = "number,run,role,method,set,epoch,accuracy,diversity,disagreement";

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

export const percent = value => (value == null ? "–" : `${(100 * value).toFixed(1)} %`);

/** One solution in words, for screen readers. @param {number} index */
export async function describePoint(index) {
  const s = (await solutions()).get(index);
  if (!s) return `solution ${index}`;
  const unit = document.querySelector("[data-experiment]").dataset.unit || "run";
  return `${s.method || s.role}, ${unit} ${s.run}${s.epoch != null ? `, epoch ${s.epoch}` : ""}, accuracy ${percent(s.accuracy)}, disagreement with its optimum ${percent(s.disagreement)}`;
}

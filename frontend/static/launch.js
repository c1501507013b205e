// The launch form's life: it posts itself for its plan and takes over what the server answers; problems under the fields
// that were changed; marks at what differs from the preset; copying. The form works without any of this.

import { copy } from "./app.js";

const form = document.querySelector("[data-launch]");
const panel = document.querySelector("#plan");
const note = document.querySelector("#note");
// Problems are told under fields that were changed here, or that the server found wrong in what was sent.
const touched = new Set([...form.querySelectorAll("[aria-invalid]")].map(nameOf));
const DELAY = 300; // ms of rest after a keystroke, before the form is posted
let asking = null; // aborts the request that a newer one makes stale
let timer = 0;
let stale = false; // something was changed since the last answer

function nameOf(field) {
  return field.dataset.control || field.name;
}

function fieldOf(name) {
  return form.querySelector(`[data-control="${CSS.escape(name)}"]`) || form.querySelector(`[name="${CSS.escape(name)}"]`);
}

/** Ask for the plan of what is in the form now. */
async function ask() {
  clearTimeout(timer);
  asking?.abort();
  asking = new AbortController();
  panel.setAttribute("aria-busy", "true");
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.dataset.plan, { method: "POST", body, signal: asking.signal, headers: { Accept: "application/json" } });
    if (answer.headers.get("content-type").startsWith("text/html")) takeOver(await answer.text());
    else note.textContent = (await answer.json()).detail;
    note.classList.toggle("err", !answer.ok);
    for (const price of [panel, ...document.querySelectorAll("#go-total, #power")]) price.classList.toggle("stale", !answer.ok);
    stale = false;
  } catch (error) {
    if (error.name === "AbortError") return;
    note.textContent = "The estimate is unavailable; the form still works.";
    note.classList.remove("err");
  }
  panel.removeAttribute("aria-busy");
}

/** @param {string} html */
function takeOver(html) {
  const answer = new DOMParser().parseFromString(html, "text/html");
  for (const fresh of answer.querySelectorAll("[data-answer]")) fill(document.getElementById(fresh.id), fresh);
  for (const bad of form.querySelectorAll("[aria-invalid]")) bad.removeAttribute("aria-invalid");
  for (const row of form.querySelectorAll(".method.bad")) row.classList.remove("bad");
  for (const old of form.querySelectorAll(".field .err, .method .err")) old.remove();
  const automatic = answer.querySelector("#automatic");
  for (const [name, text] of Object.entries(automatic ? JSON.parse(automatic.textContent) : {})) fieldOf(name)?.setAttribute("placeholder", text);
  for (const problem of answer.querySelectorAll("[data-problem]")) showProblem(problem.dataset.problem, problem.firstElementChild);
}

/** The content of one element for another's; what was unfolded or focused there stays so. */
function fill(old, fresh) {
  if (!old || old.innerHTML === fresh.innerHTML) return;
  const inside = () => [...old.querySelectorAll("a, summary, button")];
  const focused = inside().indexOf(document.activeElement);
  const unfolded = [...old.querySelectorAll("details")].map(fold => fold.open);
  old.replaceChildren(...fresh.childNodes);
  [...old.querySelectorAll("details")].forEach((fold, i) => (fold.open = unfolded[i] ?? fold.open));
  if (focused >= 0) inside()[focused]?.focus();
}

function showProblem(name, words) {
  const field = fieldOf(name);
  if (!field || ![...touched].some(other => name.startsWith(other))) return;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", [form.querySelector(`#help-${CSS.escape(name)}`)?.id, words.id].filter(Boolean).join(" "));
  (field.closest(".field") || field.closest(".method"))?.append(words);
  for (let fold = field.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  field.closest(".method")?.classList.add("bad");
}

function askSoon() {
  stale = true;
  clearTimeout(timer);
  timer = setTimeout(ask, DELAY);
}

const boxes = field => [...field.querySelectorAll("input[type=checkbox]")];

/** A field's value as the server writes it in data-was. */
function valueOf(field) {
  if (field.dataset.kind === "checks") return boxes(field).filter(box => box.checked).map(box => box.value).join(", ");
  return field.type === "checkbox" ? `${field.checked}` : field.value.trim();
}

function restore(field, was) {
  if (field.dataset.kind === "checks") for (const box of boxes(field)) box.checked = was.split(", ").includes(box.value);
  else if (field.type === "checkbox") field.checked = was === "true";
  else field.value = was;
  field.dispatchEvent(new Event("change", { bubbles: true }));
  field.focus();
}

/** A changed field is marked with a dot and "was 40"; fields of another data set, network or part of the recipe are hidden. */
function mark() {
  for (const was of form.querySelectorAll("[data-was]")) {
    was.hidden = valueOf(fieldOf(was.dataset.for)) === was.dataset.was;
    if (was.hidden || was.firstChild) continue;
    const restores = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "restore" });
    was.append(`● was ${{ true: "on", false: "off" }[was.dataset.was] ?? (was.dataset.was || "empty")} `, restores);
  }
  const [dataset, architecture] = ["data.dataset", "network.architecture"].map(name => fieldOf(name)?.value);
  for (const only of form.querySelectorAll("[data-when-dataset]")) only.hidden = !only.dataset.whenDataset.split(" ").includes(dataset);
  for (const only of form.querySelectorAll("[data-when-architecture]")) only.hidden = only.dataset.whenArchitecture !== architecture;
  for (const only of form.querySelectorAll("[data-when-field]")) only.hidden = only.dataset.whenValue !== fieldOf(only.dataset.whenField)?.value;
}

const marks = name => [...form.querySelectorAll(`[data-was]${name === "*" ? "" : `[data-for="${CSS.escape(name)}"]`}`)];

form.addEventListener("input", askSoon);
form.addEventListener("change", event => {
  touched.add(nameOf(event.target.closest("[data-control]") || event.target));
  mark();
  askSoon();
});
form.addEventListener("click", async event => {
  const button = event.target.closest("button");
  const own = button?.closest("[data-was]")?.dataset.for;
  if (own || button?.name === "undo") {
    event.preventDefault();
    for (const { dataset } of marks(own ?? button.value).filter(mark => !mark.hidden)) restore(fieldOf(dataset.for), dataset.was);
  } else if (button?.name === "runs") {
    event.preventDefault();
    restore(fieldOf("ensemble.runs"), button.value);
  } else if (button?.dataset.copyOf) {
    if (stale) await ask();
    copy(document.getElementById(button.dataset.copyOf).textContent, "copied");
  }
});

document.querySelector("#problems")?.focus();
mark();
if (form.dataset.planned !== "true") ask();

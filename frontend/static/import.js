// Import: files are hashed and sent in parts, going on where the server has them; then the form says which they are.

import { Sha256 } from "./sha256.js";

const PART = 8 * 2 ** 20; // bytes sent at a time, so that little is lost when the connection breaks
const LEAST = 2 ** 19; // where a proxy on the way takes less
const WAITS = [1, 2, 4, 8, 15, 30, 60]; // seconds before it is tried again
const root = document.documentElement.dataset.root || "";
let active = null; // the form whose files go
let chosen = []; // {name, file}
let paused = false;
let wake = () => {};
let running = false;

/** The digest of a file, read in parts. */
async function digest(file, tell) {
  const hash = new Sha256();
  for (let at = 0; at < file.size; at += PART) {
    await going();
    hash.update(new Uint8Array(await file.slice(at, at + PART).arrayBuffer()));
    tell(Math.min(at + PART, file.size));
  }
  return hash.hex();
}

const going = () => (paused ? new Promise(resolve => (wake = resolve)) : Promise.resolve());
const rest = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

/** One request, again and again while the server is away or says that it is busy; throws what it refuses. */
async function asked(address, options, say) {
  for (let turn = 0; ; turn++) {
    await going();
    let answer = null;
    try {
      answer = await fetch(address, options);
    } catch {
      // away: tried again
    }
    if (answer && answer.status < 500) return answer;
    const wait = WAITS[Math.min(turn, WAITS.length - 1)];
    say(`The server does not answer; trying again in ${wait} s`);
    await rest(wait);
  }
}

/** Send what the server does not have of a file. */
async function send(file, sha256, tell, say) {
  const address = `${root}/api/uploads/${sha256}`;
  let part = PART;
  for (;;) {
    const state = await (await asked(address, { headers: { Accept: "application/json" } }, say)).json();
    tell(state.received);
    if (state.complete) return;
    const end = Math.min(state.received + part, file.size);
    const headers = { Accept: "application/json", "Content-Type": "application/octet-stream" };
    if (file.size) headers["Content-Range"] = `bytes ${state.received}-${end - 1}/${file.size}`;
    const answer = await asked(address, { method: "PUT", headers, body: file.slice(state.received, end) }, say);
    const ours = answer.headers.get("content-type")?.startsWith("application/problem+json");
    if (answer.status === 409) await rest(1);
    else if (answer.status === 413 && !ours && part > LEAST) part = Math.max(LEAST, part / 8);
    else if (!answer.ok) throw new Error((await answer.json()).detail);
  }
}

async function start() {
  if (running || !chosen.length) return;
  running = true;
  const sending = active.querySelector("[data-sending]");
  const said = active.querySelector("[data-said]");
  const bar = active.querySelector("[data-progress]");
  const say = text => {
    if (said.textContent !== text) said.textContent = text;
  };
  sending.hidden = false;
  active.querySelector("[data-go]").disabled = true;
  const total = 2 * chosen.reduce((sum, one) => sum + one.file.size, 0) || 1; // read once, sent once
  let before = 0;
  const added = new Set(chosen.map(({ name }) => name));
  const kept = JSON.parse(active.querySelector("[data-kept]")?.value || "[]"); // sent before; the new ones join them
  const files = kept.filter(({ name }) => !added.has(name));
  try {
    for (const [i, { name, file }] of chosen.entries()) {
      const tell = done => (bar.value = (before + done) / total);
      say(`${name}: reading, ${i + 1} of ${chosen.length}`);
      const sha256 = await digest(file, tell);
      before += file.size;
      say(`${name}: sending, ${i + 1} of ${chosen.length}`);
      await send(file, sha256, tell, say);
      before += file.size;
      files.push({ name, sha256 });
    }
  } catch (error) {
    say(`It was not sent: ${error.message}`);
    active.querySelector("[data-go]").disabled = false;
    running = false;
    return;
  }
  bar.value = 1;
  say("Sent. Looking at it");
  if (active.dataset.import === "weights") {
    active.elements.namedItem("files").value = JSON.stringify(files);
    active.querySelector("input[name=file]").value = "";
    active.submit();
    return;
  }
  const next = document.createElement("form");
  next.method = "post";
  next.action = active.getAttribute("action");
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: "files", value: JSON.stringify(files) });
  next.append(field);
  document.body.append(next);
  next.submit();
}

/** Files below a folder that was dropped, with their paths. */
async function below(entry, path = "") {
  if (entry.isFile) return [{ name: path + entry.name, file: await new Promise((ok, no) => entry.file(ok, no)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((ok, no) => reader.readEntries(ok, no)); // a hundred at a time
    if (!some.length) break;
    for (const one of some) found.push(...(await below(one, `${path}${entry.name}/`)));
  }
  return found;
}

/** Files for a form: of predictions they go at once; of weights, when the rest of the form is filled. */
function take(into, files) {
  if (running) return;
  active = into;
  chosen = files.filter(({ name }) => !name.split("/").some(part => part.startsWith(".")));
  const named = into.querySelector("[data-named]");
  if (named) named.textContent = chosen.map(({ name }) => name).join(", ");
  else start();
}

/** @param {HTMLFormElement} form */
function takesFiles(form) {
  const input = form.querySelector("input[name=file]");
  const folder = form.querySelector("[data-folder]");
  const drop = form.querySelector("[data-drop]");
  input.multiple = true;
  form.querySelector("[data-script]").hidden = false;
  const from = list => take(form, [...list].map(file => ({ name: file.webkitRelativePath || file.name, file })));
  input.addEventListener("change", () => from(input.files));
  folder.addEventListener("change", () => from(folder.files));
  form.addEventListener("submit", event => {
    const isMine = active === form && chosen.length;
    if (!isMine && form.elements.namedItem("files").value) return; // they were sent before
    event.preventDefault();
    if (isMine) start();
    else input.focus();
  });
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, event => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async event => {
    event.preventDefault();
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.length) take(form, (await Promise.all(entries.map(entry => below(entry)))).flat());
    else from(event.dataTransfer.files);
  });
  const pause = form.querySelector("[data-pause]");
  const resume = form.querySelector("[data-resume]");
  pause.addEventListener("click", () => {
    paused = true;
    pause.hidden = true;
    resume.hidden = false;
    resume.focus();
  });
  resume.addEventListener("click", () => {
    paused = false;
    resume.hidden = true;
    pause.hidden = false;
    pause.focus();
    wake();
  });
}

for (const one of document.querySelectorAll("[data-import]")) takesFiles(one);

// Tells when experiments end that somebody asked to be told of: in every open page, and by the browser where it may.
// What is asked for is kept in this browser; one page asks the server for all of them, four times a minute at most.

const root = document.documentElement.dataset.root || "";
const EVERY = 15000; // ms between two questions
const ASKED = "tell-asked"; // when a page of this browser asked last
const TOLD = "tell-told"; // what is told to the other pages
const ENDED = ["succeeded", "failed", "cancelled"];

/** Experiments that are watched, by id. @returns {Record<string, {slug: string, name: string}>} */
export function watched() {
  try {
    return JSON.parse(localStorage.getItem("tell") ?? "{}") ?? {};
  } catch {
    return {}; // somebody else's
  }
}

/** @param {string} id @param {{slug: string, name: string} | null} about null: not any more */
function watch(id, about) {
  const all = watched();
  if (about) all[id] = about;
  else delete all[id];
  localStorage.setItem("tell", JSON.stringify(all));
}

/** What is said of one that has ended. */
export const words = ({ name }, status) => `${name} ${{ succeeded: "has succeeded", failed: "has failed" }[status] ?? "was cancelled"}`;

/** A notice that stays until it is closed, with the way to the page. */
function show({ slug, text }) {
  const box = Object.assign(document.createElement("div"), { className: "notice told" });
  box.setAttribute("role", "status");
  const link = Object.assign(document.createElement("a"), { href: `${root}/experiments/${slug}`, textContent: text });
  const close = Object.assign(document.createElement("button"), { type: "button", className: "light tiny", textContent: "Close" });
  close.addEventListener("click", () => box.remove());
  box.append(link, close);
  document.querySelector("#content")?.prepend(box);
}

const may = () => window.isSecureContext && "Notification" in window; // TLS or this machine

function tell(about, status) {
  const told = { slug: about.slug, text: words(about, status) };
  show(told);
  localStorage.setItem(TOLD, JSON.stringify({ ...told, at: Date.now() })); // other pages hear of it
  if (!may() || Notification.permission !== "granted") return;
  const notice = new Notification("Modescape", { body: told.text, tag: about.slug });
  notice.onclick = () => {
    window.focus();
    location.assign(`${root}/experiments/${about.slug}`);
  };
}

async function ask() {
  const all = Object.entries(watched());
  if (!all.length || Date.now() - Number(localStorage.getItem(ASKED)) < EVERY - 1000) return;
  localStorage.setItem(ASKED, `${Date.now()}`);
  for (const [id, about] of all) {
    const answer = await fetch(`${root}/api/experiments/${id}`, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer) return; // the server is away: later
    const status = answer.ok ? (await answer.json()).status : null;
    if (answer.ok && !ENDED.includes(status)) continue;
    if (!watched()[id]) continue; // another page has told it
    if (answer.ok || answer.status === 404) watch(id, null);
    if (status) tell(about, status);
    draw();
  }
}

function draw() {
  for (const button of document.querySelectorAll("[data-tell]")) {
    button.hidden = false;
    button.setAttribute("aria-pressed", `${button.dataset.tell in watched()}`);
  }
}

async function press(button) {
  const { tell: id, slug, name } = button.dataset;
  const note = document.querySelector("[data-tell-note]");
  if (id in watched()) watch(id, null);
  else {
    watch(id, { slug, name });
    if (note) note.textContent = "Open pages will say so.";
    if (note && !may()) note.textContent += " The browser itself may only over TLS or on this machine.";
    if (may() && (await Notification.requestPermission()) === "granted" && note) note.textContent = "The browser will say so while a page is open.";
  }
  draw();
}

if (globalThis.document) {
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-tell]");
    if (button) press(button);
  });
  addEventListener("storage", event => {
    if (event.key === TOLD && event.newValue) show(JSON.parse(event.newValue));
    if (event.key === "tell") draw();
  });
  draw();
  setInterval(ask, EVERY);
  ask();
}

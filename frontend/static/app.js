// Every page: theme, keys, copying, dialogs, and the check boxes of the list.

const root = document.documentElement;
const base = root.dataset.root || ""; // the path a proxy serves us under

/** Say something briefly, to eyes and to screen readers. @param {string} text */
export function notify(text) {
  const box = document.querySelector("#toast");
  if (!box) return;
  box.textContent = text;
  box.hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => (box.hidden = true), 4000);
}

export const theme = () => root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

/** @param {string} text */
export async function copy(text, done = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
    notify(done);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area); // clipboards need a secure context; plain http on a lab network is none
    area.select();
    notify(document.execCommand("copy") ? done : "Copying is not allowed here; select and copy by hand");
    area.remove();
  }
}

function setTheme(name) {
  root.dataset.theme = name;
  document.cookie = `theme=${name}; path=${base}/; max-age=31536000; samesite=lax`;
  document.querySelector("form[data-theme-form] input[name=theme]")?.setAttribute("value", name === "dark" ? "light" : "dark");
  dispatchEvent(new CustomEvent("themechange"));
}

document.addEventListener("submit", event => {
  const form = event.target;
  if (form.matches("[data-theme-form]")) {
    event.preventDefault();
    setTheme(theme() === "dark" ? "light" : "dark");
  } else if (form.matches("[data-view]")) {
    event.preventDefault();
    showView(form);
  } else if (!event.defaultPrevented && form.method === "post") {
    // Safe to press twice: the second press finds the button asleep (woken when the page comes back from history).
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    addEventListener("pageshow", () => delete form.dataset.sent, { once: true });
  }
});

/** Ask for the same page with the form's values in its address; defaults are left out, selection and zoom stay. */
function showView(form) {
  const url = new URL(location.href);
  for (const field of form.elements) {
    if (!("default" in field.dataset)) continue;
    const value = field.type === "checkbox" ? `${field.checked}` : field.value.trim();
    if (value === field.dataset.default) url.searchParams.delete(field.name);
    else url.searchParams.set(field.name, value);
  }
  location.assign(url.href.replaceAll("%2C", ","));
}

document.addEventListener("click", event => {
  const button = event.target.closest("[data-copy], [data-copy-link], [data-open], [data-close]");
  if (!button) return;
  if (button.dataset.open) document.getElementById(button.dataset.open)?.showModal();
  else if ("close" in button.dataset) button.closest("dialog")?.close();
  else if ("copyLink" in button.dataset) copy(location.href, "Link copied");
  else copy(document.getElementById(button.dataset.copy)?.textContent ?? "");
});

// A definition opens where its word is pointed at or has the focus; without script a press opens it. Escape closes it.
let closed = 0; // when one was: the focus then goes back to its word, which must not open it again
for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, ({ target }) => {
  const word = target.closest?.(".term");
  const box = word?.popoverTargetElement;
  const isBack = kind === "focusin" && Date.now() - closed < 100;
  if (box && !isBack && !box.matches(":popover-open")) box.showPopover({ source: word });
});
for (const kind of ["pointerout", "focusout"]) document.addEventListener(kind, ({ target }) => {
  if (target.closest?.(".term, .def")) setTimeout(() => {
    const held = document.querySelector(".term:is(:hover, :focus), .def:is(:hover, :focus-within)");
    if (!held) document.querySelector(".def:popover-open")?.hidePopover();
  }, 200);
});
document.addEventListener("beforetoggle", event => event.newState === "closed" && (closed = Date.now()), true);

// A finger reads titles by a tap.
document.addEventListener("click", event => {
  const told = event.pointerType === "touch" && event.target.closest("[title]:not(a, button, summary, label, input)");
  if (told) notify(told.title);
});

// Menus close when the focus or a click leaves them.
document.addEventListener("pointerdown", event => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// Selects marked so send their form at once; without script its button does.
document.addEventListener("change", event => {
  const field = event.target.closest("[data-autosubmit]");
  if (field) field.form.requestSubmit();
  if (event.target.matches("[data-all]")) {
    for (const box of document.querySelectorAll("input[name=ref]")) box.checked = event.target.checked;
  }
  countRows();
});

function countRows() {
  const note = document.querySelector("[data-chosen]");
  if (!note) return;
  const n = document.querySelectorAll("input[name=ref]:checked").length;
  const all = document.querySelector("[data-everything]")?.checked;
  note.textContent = all ? "all selected" : n ? `${n} selected` : "";
  note.closest(".bulk")?.classList.toggle("idle", !n && !all);
}
addEventListener("pagechanged", countRows);

// Single keys work outside fields only and can be switched off in the dialog of `?` (WCAG 2.1.4).
const keysOn = () => localStorage.getItem("keys") !== "off";
const figures = () => [...document.querySelectorAll(".fig")];
const here = () => figures().find(figure => figure.classList.contains("here")) || figures()[0];

function step(by) {
  const link = document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]");
  if (link) return link.click();
  const all = figures();
  const found = all.findIndex(figure => figure.classList.contains("here"));
  const next = all[Math.max(0, Math.min(all.length - 1, found < 0 ? 0 : found + by))];
  for (const figure of all) figure.classList.toggle("here", figure === next);
  next?.scrollIntoView({ block: "start" });
  next?.querySelector("h2 a")?.focus({ preventScroll: true });
}

const rows = () => [...document.querySelectorAll("tbody tr:has(input[name=ref])")];
const keys = {
  "/": () => document.querySelector("#search")?.focus(),
  n: () => location.assign(`${base}/launch`),
  j: () => step(1),
  k: () => step(-1),
  f: () => here()?.querySelector("[data-alone]")?.click(),
  d: () => (document.querySelector("#tab-data") || here()?.querySelector("[data-data]"))?.click(),
  x: () => (rows().find(row => row.contains(document.activeElement)) || rows()[0])?.querySelector("input")?.click(),
  c: () => document.querySelector("button[formaction$='/compare']")?.click(),
  t: () => setTheme(theme() === "dark" ? "light" : "dark"),
  "?": () => document.querySelector("#keys")?.showModal(),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    return;
  }
  if (!keysOn() || event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea, dialog, [data-keys]")) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

const toggle = document.querySelector("#keys-on");
if (toggle) {
  toggle.checked = keysOn();
  toggle.addEventListener("change", () => localStorage.setItem("keys", toggle.checked ? "on" : "off"));
}

// Times are rendered relative by the server; keep them true while the page stays open.
/** As words.py: seconds up to 150, minutes up to 60, then hours. @param {number} seconds */
function duration(seconds) {
  if (seconds < 149.5) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
}
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago], time[data-since]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const isSince = "since" in time.dataset;
    const text = duration(seconds) + (isSince ? "" : " ago");
    if ((isSince || seconds < 86400) && text !== time.textContent) time.textContent = text;
  }
}, 1000);
if (matchMedia("(max-width: 639px)").matches) for (const facet of document.querySelectorAll(".facets details")) facet.open = false;
countRows();

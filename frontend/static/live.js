// Fragments marked data-live are asked for again when something happened, figures come and go with the plan, those whose
// inputs changed reload (figure/page.js listens). What happens is heard over one stream of the browser (stream.js), which
// a hidden tab leaves; it catches up when it is shown.

import { connect } from "./stream.js";

const source = document.querySelector(":root:not([data-visiting]) [data-events]"); // a link leads to no events
const QUIET = 20000; // between two announcements to screen readers, ms
const CURVES = 5000; // between two drawings of curves that move, ms
const DEAF = 8000; // without a word from what holds the stream, ms: it speaks every two seconds

if (source) {
  let line = null; // to what holds the stream
  let heardAt = 0;
  let deaf = 0; // times that nobody spoke
  let last = Number(source.dataset.after) || 0;
  let waiting = false;
  let announced = 0;
  let curves = 0;
  const pending = new Set(); // stage kinds that succeeded since the last refresh
  const served = new WeakMap(); // what the server said last of each part: scripts say more there
  let closed = false; // whether what the page is of was deleted
  let held = false; // whether something new waits until its place is free

  const status = document.querySelector("[data-connection]");
  const tell = text => {
    if (status && status.textContent !== text) status.textContent = text;
  };

  const parts = (root = document) => root.querySelectorAll("[data-live][id]");
  const said = part => part.innerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1"); // ages go on by themselves
  const remember = root => parts(root).forEach(part => served.set(part, said(part)));

  /** The children of a [data-each] by their ids: some come, some go, the others stay as they are, but for their width. */
  function follow(box, fresh) {
    const wanted = [...fresh.children];
    const ids = children => children.map(child => child.id).join(" ");
    if (ids([...box.children]) === ids(wanted)) return false;
    remember(fresh);
    const here = new Map([...box.children].map(child => [child.id, child]));
    for (const one of wanted) here.get(one.id)?.classList.toggle("full", one.matches(".full"));
    box.replaceChildren(...wanted.map(one => here.get(one.id) ?? one));
    dispatchEvent(new Event("resize")); // plots take the width that they have now
    return true;
  }

  /** Put what is new in its place, with what was open there open and the focus where it was. False, and nothing is
   * changed, where that cannot be: somebody fills in a field there, or an element has no id to be found again by. */
  function takeOver(old, fresh) {
    const open = [...old.querySelectorAll("details[open]")];
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    const isWriting = focus?.matches("input:not([type=checkbox]), select, textarea");
    if (open.some(one => !one.id) || (focus && !focus.id) || isWriting) return false;
    const ticked = [...old.querySelectorAll("input[type=checkbox][id]")].map(one => [one.id, one.checked]);
    served.set(old, said(fresh));
    Object.assign(old.dataset, fresh.dataset);
    old.replaceChildren(...fresh.childNodes);
    for (const one of open) document.getElementById(one.id)?.setAttribute("open", "");
    for (const [id, checked] of ticked) if (document.getElementById(id)) document.getElementById(id).checked = checked;
    if (focus) document.getElementById(focus.id)?.focus({ preventScroll: true });
    return true;
  }

  /** Ask for this page again and take over its [data-live] parts; focus and open menus stay where they are. */
  async function refresh() {
    waiting = false;
    const url = new URL(location.href);
    let answer;
    try {
      answer = await fetch(url, { headers: { Accept: "text/html" } });
    } catch {
      return; // the stream notices the lost connection and says so
    }
    if (answer.status === 404 || answer.status === 410) return gone();
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    let changed = false;
    for (const box of document.querySelectorAll("[data-each]")) {
      const fresh = page.getElementById(box.id);
      if (fresh && follow(box, fresh)) changed = true;
    }
    held = false;
    for (const old of parts()) {
      const fresh = page.getElementById(old.id);
      if (!fresh || fresh === old || served.get(old) === said(fresh)) continue;
      if (takeOver(old, fresh)) changed = true;
      else held = true;
    }
    if (status) status.hidden = !page.querySelector("[data-connection]"); // nothing is computed any more
    if (changed) dispatchEvent(new CustomEvent("pagechanged"));
    if (pending.size) {
      const kinds = [...pending];
      pending.clear();
      dispatchEvent(new CustomEvent("stagesdone", { detail: kinds }));
    }
  }

  /** What this page is of was deleted: it says so, and nothing on it can be pressed any more. */
  function gone() {
    const main = document.querySelector("main");
    const note = Object.assign(document.createElement("div"), { className: "notice bad", textContent: "This was deleted for good meanwhile." });
    note.setAttribute("role", "alert");
    for (const one of main.children) one.inert = true;
    main.prepend(note);
    leave();
    closed = true;
  }

  /** At most one refresh a second when stages end, one in three while they only move, however many events arrive. */
  function soon(delay = 1000) {
    if (waiting) return;
    waiting = true;
    setTimeout(refresh, delay);
  }

  function heard(id, kind, payload) {
    if (id) last = Math.max(last, id);
    if (kind === "stage-succeeded") {
      pending.add(payload.kind || "");
      if (Date.now() - announced > QUIET) {
        announced = Date.now();
        const box = document.querySelector("#announce");
        if (box) box.textContent = `${payload.kind || "A stage"} ${payload.key || ""} finished`;
      }
    }
    if (kind === "points" && Date.now() - curves > CURVES) {
      curves = Date.now();
      pending.add(payload.kind || "train"); // curves of running trainings move, planes fill
    }
    soon(kind === "progress" || kind === "points" ? 3000 : 1000);
  }

  function receive({ data: said }) {
    heardAt = Date.now();
    if (deaf === 1) deaf = 0; // another worker speaks
    if (said.state) tell(said.state);
    if (said.beat) last = Math.max(last, said.last);
    if (said.missed) soon();
    if (said.reset) location.reload();
    if (said.event && said.event.id > last) {
      const { id, kind, data } = said.event;
      heard(id, kind, data.payload || data);
    }
  }

  function join() {
    if (line || closed || document.hidden) return;
    line = connect(deaf > 1); // once another worker is tried, then it is done here
    line.onmessage = receive;
    heardAt = Date.now();
    line.postMessage({
      join: source.dataset.events, after: last, only: source.dataset.only?.split(" "),
      kinds: (source.dataset.kinds || "").split(" ").filter(Boolean),
    });
  }

  /** A tab that nobody sees needs no stream; it catches up when it is seen. */
  function leave() {
    line?.postMessage({ leave: true });
    line?.close();
    line = null;
  }

  function shown() {
    join();
    soon();
  }

  setInterval(() => {
    if (!line || Date.now() - heardAt < DEAF) return;
    deaf += 1;
    tell("connection lost, trying again");
    leave();
    shown();
  }, DEAF / 4);
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : shown()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", event => event.persisted && shown());
  addEventListener("groupschanged", () => soon(0)); // the words beside a figure speak of the groups it shows
  for (const kind of ["focusout", "toggle"]) document.addEventListener(kind, () => held && soon(), true);
  remember(document);
  join();
}

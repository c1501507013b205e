// One stream of events a tab. Fragments marked data-live are asked for again when something happened, figures whose
// inputs changed reload (figure/page.js listens), and a hidden tab closes its stream and catches up once when shown.

const source = document.querySelector("[data-events]");
const QUIET = 20000; // between two announcements to screen readers, ms
const CURVES = 5000; // between two drawings of curves that move, ms

if (source) {
  let stream = null;
  let last = Number(source.dataset.after) || 0;
  let waiting = false;
  let retry = 0;
  let announced = 0;
  let curves = 0;
  const mine = source.dataset.only?.split(" "); // experiments this page is about; without: all that the stream tells of
  const pending = new Set(); // stage kinds that succeeded since the last refresh

  const status = document.querySelector("[data-connection]");
  const tell = text => {
    if (status && status.textContent !== text) status.textContent = text;
  };

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
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh || old.innerHTML === fresh.innerHTML) continue;
      if (old.contains(document.activeElement) || old.querySelector("details[open]")) continue;
      old.replaceChildren(...fresh.childNodes);
    }
    if (pending.size) {
      const kinds = [...pending];
      pending.clear();
      dispatchEvent(new CustomEvent("stagesdone", { detail: kinds }));
    }
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

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(`${source.dataset.events}?after=${last}`);
    const receive = event => {
      retry = 0;
      tell("live");
      let data = {};
      try {
        data = JSON.parse(event.data);
      } catch {
        // an event without JSON still means that something changed
      }
      if (mine && !mine.includes(data.experiment)) last = Math.max(last, Number(event.lastEventId));
      else heard(Number(event.lastEventId), data.kind || event.type, data.payload || data);
    };
    stream.onopen = () => {
      retry = 0;
      tell("live");
    };
    stream.onmessage = receive;
    for (const kind of (source.dataset.kinds || "").split(" ").filter(Boolean)) stream.addEventListener(kind, receive);
    stream.addEventListener("reset", () => location.reload());
    stream.onerror = () => {
      if (stream?.readyState !== EventSource.CLOSED && stream?.readyState !== EventSource.CONNECTING) return;
      close(); // our own pace: 2, 4, 8 … 30 s, with the wait said aloud
      const seconds = Math.min(30, 2 ** ++retry);
      tell(`connection lost, trying again in ${seconds} s`);
      setTimeout(open, seconds * 1000);
    };
  }

  function close() {
    stream?.close();
    stream = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else {
      open();
      soon();
    }
  });
  addEventListener("pagehide", close);
  addEventListener("groupschanged", () => soon(0)); // the words beside a figure speak of the groups it shows
  open();
}

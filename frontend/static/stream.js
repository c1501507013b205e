// The one stream of events of a browser, which opens at most six connections to a server: this module is also a shared
// worker, which holds the stream for all tabs that are seen. A tab joins with the last event that it knows of and is told
// of all later ones that it asks for, each once and in order. The worker stays when any tab goes; a tab that does not hear
// of it for some seconds (its process ended) asks for a new one, and where there are none holds a stream itself.
//
//   connect().postMessage({ join: "/api/events", after: 17, kinds: ["changed"], only: [experiment] })      { leave: true }
//   what is said to a tab: { event: { id, kind, data } }, { state }, { reset: true }, { missed: true }, { beat: true, last }

const BEAT = 2000; // between two words to each tab, ms
const MISSED = 2.5; // as many of the server's pings that do not come mean that the line is dead
const streams = new Map(); // by address

class Stream {
  constructor(address) {
    this.address = address;
    this.tabs = new Map(); // port -> what it asks for, and what waits until it has caught up
    this.kinds = new Set();
    this.source = null;
    this.last = 0;
    this.state = "";
    this.retry = 0;
    this.every = 15000;
    this.timer = null; // until the line is opened again, or counts as dead
  }

  async join(port, { after, kinds, only }) {
    const tab = { only, waiting: null };
    const isFirst = this.tabs.size === 0;
    this.tabs.set(port, tab);
    for (const kind of kinds) this.kinds.add(kind);
    if (isFirst) {
      this.last = after;
      this.open();
    } else if (after < this.last) {
      tab.waiting = [];
      await this.catchUp(port, tab, after, this.last);
    }
    port.postMessage({ state: this.state });
  }

  /** What came between the page's making and its joining; what comes meanwhile waits, for its order. */
  async catchUp(port, tab, after, until) {
    try {
      for (let at = after; at < until;) {
        const answer = await fetch(`${this.address}?after=${at}`, { headers: { Accept: "application/json" } });
        const found = await answer.json();
        for (const one of found.items.filter(one => one.id <= until)) this.tell(port, tab, one.id, one.kind, one);
        if (Number(found.next) === at) break;
        at = Number(found.next);
      }
    } catch {
      port.postMessage({ missed: true }); // it looks at the whole page again
    }
    const { waiting } = tab;
    tab.waiting = null;
    for (const one of waiting) this.tell(port, tab, ...one);
  }

  leave(port) {
    this.tabs.delete(port);
    if (this.tabs.size > 0) return;
    this.close();
    this.state = "";
  }

  tell(port, tab, id, kind, data) {
    if (tab.waiting) tab.waiting.push([id, kind, data]);
    else if (!tab.only || tab.only.includes(data.experiment)) port.postMessage({ event: { id, kind, data } });
  }

  say(words) {
    for (const port of this.tabs.keys()) port.postMessage(words);
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.say({ state });
  }

  open() {
    this.close();
    const source = new EventSource(`${this.address}?after=${this.last}&pings=true`);
    this.source = source;
    const receive = event => {
      this.heard();
      const id = Number(event.lastEventId);
      this.last = Math.max(this.last, id);
      let data = {};
      try {
        data = JSON.parse(event.data);
      } catch {
        // an event without JSON still means that something changed
      }
      for (const [port, tab] of this.tabs) this.tell(port, tab, id, data.kind || event.type, data);
    };
    source.onopen = () => this.heard();
    source.onmessage = receive;
    for (const kind of this.kinds) source.addEventListener(kind, receive);
    source.addEventListener("ping", event => {
      this.every = 1000 * JSON.parse(event.data).seconds;
      this.heard();
    });
    source.addEventListener("reset", event => {
      this.last = Number(event.lastEventId); // of another database
      this.say({ reset: true });
    });
    source.onerror = () => this.source === source && this.lost();
    this.timer = setTimeout(() => this.lost(), MISSED * this.every);
  }

  heard() {
    this.retry = 0;
    this.become("live");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.lost(), MISSED * this.every);
  }

  /** Our own pace: 2, 4, 8 … 30 s, with the wait said aloud. */
  lost() {
    this.close();
    const seconds = Math.min(30, 2 ** ++this.retry);
    this.become(`connection lost, trying again in ${seconds} s`);
    this.timer = setTimeout(() => this.open(), 1000 * seconds);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}

function serve(port) {
  let stream = null;
  port.onmessage = ({ data }) => {
    stream?.leave(port);
    stream = null;
    if (!data.join) return;
    if (!streams.has(data.join)) streams.set(data.join, new Stream(data.join));
    stream = streams.get(data.join);
    stream.join(port, data);
  };
}

setInterval(() => {
  for (const { tabs, last } of streams.values()) {
    for (const [port, { waiting }] of tabs) port.postMessage({ beat: true, last: waiting ? 0 : last });
  }
}, BEAT);

if (typeof SharedWorkerGlobalScope !== "undefined") self.onconnect = event => serve(event.ports[0]);

/** A port to what holds the stream; alone: to this tab itself. */
export function connect(alone) {
  try {
    if (!alone) return new SharedWorker(import.meta.url, { type: "module", name: "events" }).port;
  } catch {
    // a browser without them, or one that forbids them
  }
  const channel = new MessageChannel();
  serve(channel.port1);
  return channel.port2;
}

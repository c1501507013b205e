// Many experiments on one picture: the mark that is pointed at is lit and named, parts of axes are picked by dragging, and
// marks are gone through by arrows. What is picked stands in the form, whose answer (the server's) says which these are.

const plots = document.querySelector("#plots");
const form = document.querySelector("#pick");
const MOVED = 4; // px, from which on a press is a drag
const NEAR = 14; // px around a mark or a line
const DELAY = 150; // ms after a change
const PICKS = /^(from|to|is|none)\./;

if (plots && form) {
  const geometry = JSON.parse(document.querySelector("#geometry").textContent);
  const fields = new Map(geometry.fields.map(field => [field.name, field]));
  const xy = document.querySelector("#xy");
  const along = document.querySelector("#along");
  const marks = [...xy.querySelectorAll(".mark")];
  const lines = [...along.querySelectorAll(".line")];
  const percents = name => marks.map(mark => Number.parseFloat(mark.querySelector("use").getAttribute(name)));
  const [xs, ys] = ["x", "y"].map(percents);
  const pointed = document.querySelector("#pointed");
  const hint = pointed.innerHTML;
  const state = () => JSON.parse(document.querySelector("#picked-state").textContent);
  let { parts } = state(); // by field: spans of its axis, and whether no value counts
  let lit = -1;
  let asking = null;
  let timer = 0;

  // ---- where things lie ----

  /** What an axis is drawn between, as shares of its picture from the left or the top: of place 0 and of 1. */
  const ends = strip => geometry.ends[strip] ?? geometry.ends[""];
  const nameOf = strip => (strip === "x" ? geometry.x : strip === "y" ? geometry.y : strip);
  const placeAt = (share, [zero, one]) => Math.min(1, Math.max(0, (share - zero) / (one - zero)));
  const shareAt = (place, [zero, one]) => zero + place * (one - zero);

  const isIn = i =>
    Object.entries(parts).every(([name, part]) => {
      const at = fields.get(name).places[i];
      return at === null ? part.none : part.spans.some(([low, high]) => at >= low - 1e-6 && at <= high + 1e-6);
    });

  function show(isOut = i => !isIn(i)) {
    let count = 0;
    marks.forEach((mark, i) => {
      const out = isOut(i);
      count += !out;
      mark.classList.toggle("out", out);
      lines[i].classList.toggle("out", out);
    });
    plots.classList.toggle("some", count > 60 && count <= 400);
    plots.classList.toggle("many", count > 400);
    box();
    for (const axis of along.querySelectorAll("[data-axis]")) {
      for (const old of axis.querySelectorAll(".brush")) old.remove();
      const strip = axis.querySelector(".strip");
      const between = ends(axis.dataset.axis);
      for (const [low, high] of parts[axis.dataset.axis]?.spans ?? []) {
        const [top, bottom] = [Math.min(1, high), Math.max(0, low)].map(place => shareAt(place, between));
        strip.before(shape("rect", { class: "brush", x: strip.getAttribute("x"), width: 14, y: `${100 * top}%`, height: `${Math.max(0, 100 * (bottom - top))}%` }));
      }
    }
  }

  /** What is picked of the two fields of the scatter, as one stretch each. */
  function box() {
    xy.querySelector(".box")?.remove();
    const [across, upwards] = [geometry.x, geometry.y].map(name => parts[name]?.spans ?? []);
    if (!across.length && !upwards.length) return;
    const [[left, right], [bottom, top]] = [[across, "x"], [upwards, "y"]].map(([spans, strip]) => {
      if (!spans.length) return strip === "x" ? [0, 1] : [1, 0];
      return [spans[0][0], spans.at(-1)[1]].map(place => shareAt(Math.min(1, Math.max(0, place)), ends(strip)));
    });
    const about = { class: "brush box", x: left, y: top, width: right - left, height: bottom - top };
    xy.querySelector(".mark").before(shape("rect", Object.fromEntries(Object.entries(about).map(([name, value]) => [name, name === "class" ? value : `${100 * value}%`]))));
  }

  function shape(kind, about) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(about)) made.setAttribute(name, `${value}`);
    return made;
  }

  // ---- what is pointed at ----

  function light(i) {
    if (i === lit) return;
    for (const one of plots.querySelectorAll(".lit")) one.classList.remove("lit");
    lit = i;
    if (i < 0) return void (pointed.innerHTML = hint);
    marks[i].classList.add("lit");
    lines[i].classList.add("lit");
    const about = marks[i].querySelector("title").textContent;
    const name = lines[i].getAttribute("aria-label");
    const link = Object.assign(document.createElement("a"), { href: marks[i].getAttribute("href"), textContent: name });
    pointed.replaceChildren(link, about.slice(name.length));
  }

  /** The nearest of those that are picked, else of all. */
  function nearest(distance) {
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < marks.length; i += 1) {
      const far = distance(i) + (marks[i].classList.contains("out") ? NEAR : 0);
      if (far < least) [best, least] = [i, far];
    }
    return least <= 2 * NEAR ? best : -1;
  }

  function markAt(event) {
    const box = xy.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return nearest(i => 2 * Math.hypot((xs[i] * box.width) / 100 - x, (ys[i] * box.height) / 100 - y));
  }

  function lineAt(event) {
    const box = along.getBoundingClientRect();
    const count = geometry.axes.length;
    const at = ((event.clientX - box.left) / box.width) * count - 0.5;
    const left = Math.min(count - 2, Math.max(0, Math.floor(at)));
    const share = Math.min(1, Math.max(0, at - left));
    const between = ends("");
    const y = event.clientY - box.top;
    const [from, to] = [left, Math.min(count - 1, left + 1)].map(k => fields.get(geometry.axes[k]).places);
    const height = place => (place === null ? geometry.none : shareAt(place, between)) * box.height;
    return nearest(i => 2 * Math.abs(height(from[i]) * (1 - share) + height(to[i]) * share - y));
  }

  // ---- picking ----

  /** The ends of a stretch as they are typed, outwards by a thousandth at most. */
  function typed(field, low, high) {
    const value = place => {
      if (!field.log) return field.low + place * (field.high - field.low);
      return place < field.floor / 2 ? 0 : field.low * (field.high / field.low) ** Math.max(0, (place - field.floor) / (1 - field.floor));
    };
    if (field.kind === "time") return [low, high].map(place => new Date(1000 * value(place)).toISOString());
    return [[low, Math.floor], [high, Math.ceil]].map(([place, rounded]) => {
      const exact = value(place);
      const step = 10 ** Math.floor(Math.log10((field.log ? Math.abs(exact) || 1 : field.high - field.low) / 500));
      return `${Number((rounded(exact / step - (rounded === Math.ceil ? 1e-9 : -1e-9)) * step).toPrecision(12))}`;
    });
  }

  const named = name => form.querySelectorAll(`[name="${CSS.escape(name)}"]`);

  function letGo(name) {
    delete parts[name];
    for (const kind of ["from", "to"]) for (const one of named(`${kind}.${name}`)) one.value = "";
    for (const kind of ["is", "none"]) for (const one of named(`${kind}.${name}`)) one.checked = false;
  }

  function pick(name, low, high) {
    const field = fields.get(name);
    letGo(name);
    parts[name] = { spans: [[low, high]], none: false };
    if (field.kind === "words") {
      const inside = new Set(field.words.filter(([place]) => place >= low && place <= high).map(([, word]) => word));
      for (const box of named(`is.${name}`)) box.checked = inside.has(box.value);
      if (![...inside].some(Boolean)) delete parts[name];
    } else {
      typed(field, low, high).forEach((text, i) => {
        for (const one of named(`${i ? "to" : "from"}.${name}`)) one.value = text;
      });
    }
  }

  function asked() {
    const pairs = [...new FormData(form)].filter(([name, value]) => value !== "" && name !== "part");
    return new URLSearchParams(pairs);
  }

  async function ask() {
    clearTimeout(timer);
    asking?.abort();
    asking = new AbortController();
    const query = asked();
    let answer;
    try {
      answer = await fetch(`${form.action}?${query}&part=picked`, { signal: asking.signal, headers: { Accept: "text/html" } });
    } catch {
      return; // another one is on its way, or the line is down: the form can be sent all the same
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-answer]")) document.getElementById(fresh.id).replaceChildren(...fresh.childNodes);
    history.replaceState(history.state, "", `${location.pathname}?${query}`);
    const said = state();
    parts = said.parts;
    const ins = new Set(said.ins === "-" ? [] : said.ins.split(",").flatMap(part => {
      const [first, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    }));
    show(i => !ins.has(i));
    document.querySelector("#picked-rows").dispatchEvent(new Event("change", { bubbles: true })); // how many are ticked
  }

  function askSoon() {
    clearTimeout(timer);
    timer = setTimeout(ask, DELAY);
  }

  // ---- by pointer ----

  let dragged = false; // the click that ends a drag is none

  /** Follows a press until it is let go; move gets the event once it is a drag, up whether it was one. */
  function follow(event, move, up) {
    const svg = event.currentTarget;
    const from = [event.clientX, event.clientY];
    dragged = false;
    const moved = now => {
      if (!dragged && Math.hypot(now.clientX - from[0], now.clientY - from[1]) < MOVED) return;
      if (!dragged) svg.setPointerCapture(event.pointerId);
      dragged = true;
      move(now);
    };
    const end = last => {
      svg.removeEventListener("pointermove", moved);
      svg.removeEventListener("pointerup", end);
      svg.removeEventListener("pointercancel", end);
      if (last.type === "pointerup") up(dragged);
      else show();
    };
    svg.addEventListener("pointermove", moved);
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
  }

  const shares = (event, box) => [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];

  function press(event) {
    const strip = event.target.closest?.(".strip")?.dataset.strip;
    if (event.button !== 0) return;
    const svg = event.currentTarget;
    const box = svg.getBoundingClientRect();
    const start = shares(event, box);
    if (strip) {
      event.preventDefault();
      const side = strip === "x" ? 0 : 1;
      const place = share => placeAt(share, ends(strip));
      const from = place(start[side]);
      follow(event, now => {
        const to = place(shares(now, box)[side]);
        pick(nameOf(strip), Math.min(from, to), Math.max(from, to));
        show();
      }, was => {
        if (!was) letGo(nameOf(strip));
        show();
        ask();
      });
    } else if (svg === xy && event.pointerType !== "touch") {
      follow(event, now => {
        const end = shares(now, box).map(share => Math.min(1, Math.max(0, share)));
        const sides = start.map((from, side) => [Math.min(from, end[side]), Math.max(from, end[side])]);
        const [[left, right], [top, bottom]] = sides;
        pick(geometry.x, placeAt(left, ends("x")), placeAt(right, ends("x")));
        pick(geometry.y, placeAt(bottom, ends("y")), placeAt(top, ends("y")));
        show();
      }, was => {
        if (was) ask();
      });
    }
  }

  /** A click leads to what is pointed at, however thin; a first tap names it, for fingers cover several. */
  function choose(event, i) {
    const known = lit;
    if (event.pointerType === "touch" && i !== known) event.preventDefault();
    light(i);
    if (i >= 0 && !event.target.closest("a") && (event.pointerType !== "touch" || i === known)) location.assign(marks[i].getAttribute("href"));
  }

  for (const [svg, at] of [[xy, markAt], [along, lineAt]]) {
    let frame = 0;
    svg.addEventListener("pointerdown", press);
    // Browsers scroll by a touch inside of SVG whatever `touch-action` says there.
    svg.addEventListener("touchstart", event => event.target.closest(".strip") && event.preventDefault(), { passive: false });
    svg.addEventListener("dragstart", event => event.preventDefault()); // a link is not carried away
    svg.addEventListener("pointermove", event => {
      cancelAnimationFrame(frame);
      if (!event.buttons && event.pointerType !== "touch") frame = requestAnimationFrame(() => light(at(event)));
    });
    svg.addEventListener("click", event => {
      if (dragged) event.preventDefault();
      else if (!event.target.closest(".strip")) choose(event, at(event));
      dragged = false;
    }, true);
  }

  // ---- by keyboard: each picture is one stop ----

  const inOrder = of => marks.map((_, i) => i).sort((a, b) => of(a) - of(b) || a - b);
  const first = fields.get(geometry.axes[0]).places;
  const orders = [
    [xy, marks, inOrder(i => xs[i]), inOrder(i => -ys[i])],
    [along, lines, inOrder(i => first[i] ?? -1), inOrder(i => first[i] ?? -1)],
  ];
  for (const [svg, all, across, upwards] of orders) {
    let at = across[0];
    all[at].setAttribute("tabindex", "0");
    svg.addEventListener("keydown", event => {
      if (event.key === "Escape") {
        for (const name of Object.keys(parts)) letGo(name);
        show();
        return ask();
      }
      const [order, by] = { ArrowRight: [across, 1], ArrowLeft: [across, -1], ArrowUp: [upwards, 1], ArrowDown: [upwards, -1], Home: [across, -Infinity], End: [across, Infinity] }[event.key] ?? [];
      if (!order) return;
      event.preventDefault();
      let place = order.indexOf(at);
      do place += Math.sign(by);
      while (place >= 0 && place < order.length && all[order[place]].classList.contains("out"));
      if (!Number.isFinite(by)) place = by < 0 ? 0 : order.length - 1;
      if (order[place] === undefined) return;
      all[at].setAttribute("tabindex", "-1");
      at = order[place];
      all[at].setAttribute("tabindex", "0");
      all[at].focus();
    });
    svg.addEventListener("focusin", event => event.target.matches(":focus-visible") && light(all.indexOf(event.target)));
  }

  box();
  form.addEventListener("change", askSoon);
  form.addEventListener("submit", event => {
    event.preventDefault();
    ask();
  });
  document.querySelector("#let-go").addEventListener("click", event => {
    event.preventDefault();
    for (const field of form.elements) if (PICKS.test(field.name)) letGo(field.name.replace(PICKS, ""));
    show();
    ask();
  });
  // What is picked goes along to another look.
  const picks = () => [...asked()].filter(([name]) => PICKS.test(name));
  document.querySelector("#look").addEventListener("formdata", event => {
    for (const name of [...event.formData.keys()]) if (PICKS.test(name)) event.formData.delete(name);
    for (const [name, value] of picks()) event.formData.append(name, value);
  });
  document.querySelector("#menu-axes").addEventListener("click", event => {
    const link = event.target.closest("a");
    if (!link) return;
    const url = new URL(link.href);
    for (const name of [...url.searchParams.keys()]) if (PICKS.test(name)) url.searchParams.delete(name);
    for (const [name, value] of picks()) url.searchParams.append(name, value);
    link.href = url.href;
  });
}

// Columns of the list: dragged by their headings, made wider at their edges; by keyboard the edge is a separator that
// arrows move, and the order is changed in the menu Columns. What is chosen is in the address, as the server reads it.

const STEP = 16; // px an arrow
const NARROWEST = 48;
const WIDEST = 800;

const list = document.querySelector("#live-list");

/** [name, width or 0] from the left. */
const chosen = () => (list.dataset.columns || "").split(",").map(part => {
  const [, name, width] = part.match(/^(.*?)(?::(\d+))?$/);
  return [name, Number(width) || 0];
});

function address(columns) {
  const url = new URL(location.href);
  url.searchParams.delete("columns");
  url.searchParams.delete("cursor");
  url.searchParams.set("columns", columns.map(([name, width]) => (width ? `${name}:${width}` : name)).join(","));
  return url.href.replaceAll("%2C", ",").replaceAll("%3A", ":");
}

/** A width changes nothing that the server shows: only the address, the links to come and what a view keeps. */
function remember(name, width) {
  const columns = chosen().map(([one, old]) => [one, one === name ? width : old]);
  list.dataset.columns = columns.map(([one, of]) => (of ? `${one}:${of}` : one)).join(",");
  history.replaceState(history.state, "", address(columns));
  const query = new URL(location.href).searchParams;
  for (const passing of ["cursor", "view", "open"]) query.delete(passing);
  for (const field of document.querySelectorAll(".views input[name=query]")) field.value = query.toString();
  for (const field of document.querySelectorAll("input[type=hidden][name=columns]")) field.value = list.dataset.columns;
}

function widen(heading, edge, width) {
  const kept = Math.round(Math.min(WIDEST, Math.max(NARROWEST, width)));
  heading.style.setProperty("--w", `${kept}px`);
  heading.dataset.width = `${kept}`;
  edge.setAttribute("aria-valuenow", `${kept}`);
  return kept;
}

function edgeOf(heading) {
  const edge = Object.assign(document.createElement("span"), { className: "edge", tabIndex: 0, id: `edge-${heading.dataset.column}` });
  const about = {
    role: "separator", "aria-orientation": "vertical", "aria-label": `Width of ${heading.innerText.trim().split("\n")[0]}`,
    "aria-valuemin": NARROWEST, "aria-valuemax": WIDEST, "aria-valuenow": Math.round(heading.getBoundingClientRect().width),
  };
  for (const [name, value] of Object.entries(about)) edge.setAttribute(name, `${value}`);
  edge.addEventListener("keydown", event => {
    const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (!by) return;
    event.preventDefault();
    remember(heading.dataset.column, widen(heading, edge, heading.getBoundingClientRect().width + by));
  });
  edge.addEventListener("pointerdown", event => {
    event.preventDefault();
    event.stopPropagation();
    edge.setPointerCapture(event.pointerId);
    const from = event.clientX;
    const before = heading.getBoundingClientRect().width;
    let now = before;
    const move = moved => (now = widen(heading, edge, before + moved.clientX - from));
    edge.addEventListener("pointermove", move);
    edge.addEventListener("lostpointercapture", () => {
      edge.removeEventListener("pointermove", move);
      if (now !== before) remember(heading.dataset.column, now);
    }, { once: true });
  });
  return edge;
}

/** A heading that is dropped on another takes its place. */
function draggable(heading) {
  heading.draggable = true;
  heading.addEventListener("dragstart", event => {
    event.dataTransfer.setData("text/x-column", heading.dataset.column);
    event.dataTransfer.effectAllowed = "move";
  });
  heading.addEventListener("dragover", event => {
    if (!event.dataTransfer.types.includes("text/x-column")) return;
    event.preventDefault();
    heading.classList.add("onto");
  });
  heading.addEventListener("dragleave", () => heading.classList.remove("onto"));
  heading.addEventListener("drop", event => {
    event.preventDefault();
    heading.classList.remove("onto");
    const moved = event.dataTransfer.getData("text/x-column");
    const onto = heading.dataset.column;
    const columns = chosen();
    const [from, to] = [moved, onto].map(name => columns.findIndex(([one]) => one === name));
    if (from < 0 || to < 0 || from === to) return;
    columns.splice(to, 0, ...columns.splice(from, 1));
    location.assign(address(columns));
  });
}

function prepare() {
  const asked = new Set(chosen().map(([name]) => name));
  for (const heading of list.querySelectorAll("th[data-column]")) {
    if (!asked.has(heading.dataset.column) || heading.querySelector(".edge")) continue;
    heading.append(edgeOf(heading));
    draggable(heading);
  }
}

if (list) {
  prepare();
  addEventListener("pagechanged", prepare);
}

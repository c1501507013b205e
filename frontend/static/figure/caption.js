// The words around a plot: caption, summary, what is still missing, the small table; and why there is no plot yet.

import { current } from "../chosen.js";

export const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

/** @param {import("./card.js").Card} card @param {object} words what the figure says of itself */
export function showCaption(card, words) {
  if (words.summary) card.plot.setAttribute("aria-label", words.summary);
  const caption = card.part("caption");
  if (caption) caption.textContent = [words.caption, words.missing, words.thinned].filter(Boolean).join(" ");
  const partial = card.part("partial");
  if (partial) {
    partial.textContent = words.partial || "";
    partial.hidden = !words.partial;
  }
  const drawn = new Set(words.legend?.filter(entry => entry.on).map(entry => entry.group));
  for (const entry of card.part("legend")?.children ?? []) entry.hidden = !drawn.has(entry.dataset.entry);
  const aside = card.part("notes");
  if (aside && words.notes) showNotes(aside, words.notes);
}

function showNotes(aside, { head, lines, text }) {
  aside.hidden = !(lines.length || text.length);
  aside.replaceChildren(...(lines.length ? [notesTable(head, lines)] : []), ...text.map(line => element("p", { textContent: line })));
}

function notesTable(head, lines) {
  const table = element("table", { className: "notes" });
  if (head.length) table.createTHead().append(notesRow(head, "col"));
  const body = table.createTBody();
  for (const { label, values, strong } of lines) body.append(notesRow([label, ...values], "row", strong));
  return table;
}

/** @param {string[]} texts @param {"col" | "row"} scope of heads: all of the row's cells, or the first */
function notesRow(texts, scope, strong = false) {
  const row = element("tr");
  texts.forEach((text, i) => {
    const isHead = text && (scope === "col" || i === 0); // an empty cell heads nothing
    const cell = element(isHead ? "th" : "td", { className: i ? "num" : "" });
    if (isHead) cell.setAttribute("scope", scope);
    cell.append(strong ? element("b", { textContent: text }) : text);
    row.append(cell);
  });
  return row;
}

/** That what is marked stands for solutions which are not in this picture. @param {number[]} absent @param {number[]} marked */
export function showAbsent(card, absent, marked) {
  const note = card.part("absent") ?? element("p", { className: "small muted absent" });
  note.dataset.absent = "";
  note.hidden = !absent.length;
  note.textContent = absentWords(absent.length, current().length, marked.length > 0);
  if (!note.isConnected) card.element.querySelector(".body").before(note);
}

/** @param {number} absent how many of the `chosen` are not in the picture @param {boolean} stand whether others are marked for them */
export function absentWords(absent, chosen, stand) {
  const some = absent === 1 ? `1 of ${chosen} selected is` : `${absent} of ${chosen} selected are`;
  const which = absent < chosen ? some : chosen > 1 ? "None of the selected is" : "The selected solution is";
  const not = absent === chosen && chosen > 1 ? "" : "not ";
  return `${which} ${not}in this picture${stand ? "; marked are points of the same run, and of the same method where it shows any" : ""}.`;
}

/** Why there is no plot, or no newer one. @param {number} status of the answer @param {object} problem */
export function showRefusal(card, status, problem) {
  const words = status === 202 ? problem.detail : `${problem.title || "Failed"}: ${problem.detail || status}`;
  if (card.figure) return showState(card, words);
  card.element.querySelector("[data-wait] ul")?.toggleAttribute("hidden", status !== 202); // it waits for no stage
  card.part("why").replaceChildren(element("strong", { textContent: words[0].toUpperCase() + words.slice(1) }));
}

export function showState(card, words) {
  const partial = card.part("partial");
  if (card.figure && partial) {
    partial.hidden = false;
    partial.textContent = words;
  } else card.part("why").textContent = words;
}

/** Narrow screens see one panel at a time. @param {string[]} panels */
export function showPanels(card, panels) {
  const group = element("div", { className: "seg small panels" });
  group.setAttribute("role", "group");
  for (const panel of panels) {
    const button = element("button", { type: "button", textContent: panel });
    button.setAttribute("aria-pressed", `${panel === card.panel}`);
    button.onclick = () => {
      for (const other of group.children) other.setAttribute("aria-pressed", `${other === button}`);
      card.panel = panel;
      card.reload();
    };
    group.append(button);
  }
  card.element.querySelector(".body").before(group);
}

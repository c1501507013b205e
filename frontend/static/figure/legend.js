// The legend is also a filter: groups of points are switched off in all figures, and the address says which are on.

import { cards, changeAddress, redraw, seen } from "./cards.js";

const buttons = () => [...document.querySelectorAll("[data-group]")];

/** What the address asks for; without, what the server has switched on. */
export function readLegend() {
  const asked = new URL(location.href).searchParams.get("method")?.split(",");
  const isOn = button => asked?.includes(button.dataset.group) ?? button.defaultChecked ?? true;
  seen.hidden = new Set(buttons().filter(button => !isOn(button)).map(button => button.dataset.group));
  markButtons();
}

function markButtons() {
  for (const button of buttons()) {
    const isOn = !seen.hidden.has(button.dataset.group);
    if (button.type === "checkbox") button.checked = isOn;
    else button.setAttribute("aria-pressed", `${isOn}`);
  }
}

/** @param {string} group */
export function toggleGroup(group) {
  if (!seen.hidden.delete(group)) seen.hidden.add(group);
  markButtons();
  const shown = buttons().map(button => button.dataset.group).filter(name => !seen.hidden.has(name));
  // Alone on its page a figure may leave groups out by itself, so there "all" has to be said.
  const isAll = !seen.hidden.size && !(cards.size === 1 && [...cards.values()][0].redraws);
  changeAddress(parameters => (isAll ? parameters.delete("method") : parameters.set("method", shown.join(","))));
  redraw();
  for (const card of cards.values()) {
    if (!card.redraws) continue;
    card.reload();
    dispatchEvent(new CustomEvent("groupschanged"));
  }
}

// The table of contents shows which section is in view. Sections fold; what is not as by itself stands in the address:
// fold=claims,plane of what is open by itself, open=log of what is not.

import { cards, changeAddress } from "./cards.js";

let observer = null;
const sections = () => [...document.querySelectorAll("[data-section], .figures > .fig")];
const isOpen = section => section.open ?? !section.classList.contains("folded");

/** Called again, of the sections there are now. */
export function markSections() {
  observer?.disconnect();
  const links = new Map([...document.querySelectorAll(".sections a")].map(link => [link.hash.slice(1), link]));
  const mark = entries => {
    for (const { target } of entries.filter(entry => entry.isIntersecting)) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(target.id);
      link.setAttribute("aria-current", "true");
      const list = link.closest("ul"); // it is scrolled, and never the page
      list.scrollLeft = link.offsetLeft - list.offsetLeft - list.clientWidth / 3;
    }
  };
  observer = new IntersectionObserver(mark, { rootMargin: "-25% 0px -70% 0px" });
  for (const name of links.keys()) if (document.getElementById(name)) observer.observe(document.getElementById(name));
}

function set(section, open) {
  if ("open" in section) section.open = open;
  section.classList.toggle("folded", !open);
  section.querySelector("[data-fold]")?.setAttribute("aria-expanded", `${open}`);
  cards.get(section.id)?.load();
}

function remember() {
  changeAddress(parameters => {
    for (const key of ["fold", "open"]) {
      const found = sections().filter(one => isOpen(one) === (key === "open") && "closed" in one.dataset === (key === "open"));
      if (found.length) parameters.set(key, found.map(one => one.dataset.section ?? one.id).join(","));
      else parameters.delete(key);
    }
  });
  document.querySelector("[data-fold-all]").textContent = sections().some(isOpen) ? "Fold all" : "Unfold all";
}

/** What a link leads to is opened. */
function follow() {
  const target = document.getElementById(location.hash.slice(1));
  const section = target?.closest("[data-section], .fig");
  if (!section || isOpen(section)) return;
  set(section, true);
  target.scrollIntoView();
}

/** What was linked to stays in view while figures above it come in, until somebody moves. */
function hold() {
  const asked = document.getElementById(location.hash.slice(1));
  if (!asked) return;
  const watch = new ResizeObserver(() => asked.scrollIntoView({ behavior: "instant" }));
  const end = () => watch.disconnect();
  watch.observe(document.querySelector("main"));
  for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) addEventListener(kind, end, { once: true });
  setTimeout(end, 10000);
}

export function foldSections() {
  document.addEventListener("click", ({ target }) => {
    const fig = target.closest("[data-fold]")?.closest(".fig");
    const all = target.closest("[data-fold-all]") ? sections() : [];
    const open = !all.some(isOpen);
    if (fig) set(fig, !isOpen(fig));
    for (const section of all) set(section, open);
    if (fig || all.length) remember();
  });
  document.addEventListener("toggle", ({ target }) => target.matches("[data-section]") && remember(), true);
  addEventListener("hashchange", follow);
  follow();
  hold();
}

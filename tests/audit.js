// What is wrong with this page for people: names, heads, ids, targets (WCAG 2.5.8) and contrast (1.4.3). A list of words.
() => {
  const wrong = [];
  const visible = e => e.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true });
  const one = s => document.querySelectorAll(s).length;
  for (const landmark of ["header", "main", "nav", "footer", "h1"]) if (!one(landmark)) wrong.push(`no ${landmark}`);
  if (one("h1") !== 1) wrong.push(`${one("h1")} h1`);
  if (!document.title || !document.documentElement.lang) wrong.push("no title or language");
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  for (const id of new Set(ids)) if (ids.filter(other => other === id).length > 1) wrong.push(`id ${id} twice`);
  const named = e => (e.getAttribute("aria-label") || e.textContent.trim() || e.getAttribute("title") ||
    (e.labels && [...e.labels].map(l => l.textContent).join("").trim()));
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href], summary"))
    if (visible(e) && !named(e)) wrong.push(`no name: ${e.outerHTML.slice(0, 120)}`);
  for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
    for (const id of `${e.getAttribute("aria-describedby") || ""} ${e.getAttribute("aria-labelledby") || ""}`.split(" ").filter(Boolean))
      if (!document.getElementById(id)) wrong.push(`${id} is not there`);
  for (const e of document.querySelectorAll("table")) if (!e.querySelector("th")) wrong.push("a table without heads");
  for (const e of document.querySelectorAll("button, a.btn, summary.btn, select, input[type=checkbox]")) {
    const box = e.getBoundingClientRect();
    const target = e.type === "checkbox" ? 16 : 24;
    if (visible(e) && box.width && !e.closest(".modebar, p, .was, .facets, footer") && (box.height < target - 0.5 || box.width < 15.5))
      wrong.push(`small target ${Math.round(box.width)}x${Math.round(box.height)}: ${e.outerHTML.slice(0, 100)}`);
  }
  const colour = text => {
    const parts = text.match(/[\d.]+/g).map(Number);
    return { c: parts.slice(0, 3), a: parts[3] ?? 1 };
  };
  const light = c => {
    const [r, g, b] = c.map(v => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; // relative luminance, WCAG 2.2
  };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const found = colour(getComputedStyle(e).backgroundColor);
      if (found.a > 0.99) return found.c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Set();
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !visible(e) || e.closest("svg, script, style, noscript, [disabled], .sr, .skip, option")) continue;
    const [a, b] = [light(colour(getComputedStyle(e).color).c), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.add(`contrast ${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return [...wrong, ...faint];
}

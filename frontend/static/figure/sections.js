let observer = null;

/** The section bar shows which figure is in view; called again, of the sections there are now. */
export function markSections() {
  observer?.disconnect();
  const links = new Map([...document.querySelectorAll(".sections a")].map(link => [link.hash.slice(1), link]));
  const mark = entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const [name, link] of links) {
        if (name === target.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  };
  observer = new IntersectionObserver(mark, { rootMargin: "-25% 0px -70% 0px" });
  for (const name of links.keys()) if (document.getElementById(name)) observer.observe(document.getElementById(name));
}

// A picture step by step: runs epoch by epoch, samples up to a distance. The figure says at which step each of its points
// comes (trace.meta.at) and what each step is (layout.meta.along). Nothing plays by itself, or where motion is not wanted.

import { element } from "./caption.js";

const WHOLE = 6000; // ms that all steps take,
const SHORTEST = 80; // and one of them at least
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The controls under a figure that has steps. At the last one it shows all, and what comes while it is trained.
 * @param {import("./card.js").Card} card */
export function showSteps(card) {
  const { along } = card.figure.layout.meta ?? {};
  if (!along) {
    card.part("steps")?.remove();
    card.until = card.figure.until = null;
    return;
  }
  const bar = card.part("steps") ?? made(card);
  const last = along.texts.length - 1;
  const slider = bar.querySelector("input");
  slider.max = last;
  slider.setAttribute("aria-label", along.label);
  bar.setAttribute("aria-label", `${along.label}, step by step`);
  bar.querySelector("[data-play]").hidden = !along.plays || calm.matches;
  tell(card, card.until === null ? last : Math.min(card.until, last));
}

function made(card) {
  const bar = element("div", { className: "steps on-screen" });
  bar.dataset.steps = "";
  bar.setAttribute("role", "group");
  const slider = element("input", { type: "range", min: 0, step: 1 });
  const play = element("button", { type: "button", className: "light tiny" });
  play.dataset.play = "";
  const button = (text, label, by) => {
    const made = element("button", { type: "button", className: "light tiny", textContent: text, onclick: () => go(card, Number(slider.value) + by) });
    made.setAttribute("aria-label", label);
    return made;
  };
  slider.oninput = () => go(card, Number(slider.value));
  play.onclick = () => (card.playing ? stop(card) : start(card));
  bar.onkeydown = event => {
    if (event.key !== "Escape" || !card.playing) return;
    event.stopPropagation();
    stop(card);
  };
  bar.append(play, button("‹", "One step back", -1), slider, button("›", "One step on", 1), element("output"));
  card.element.querySelector(".body").after(bar);
  showPlaying(card, bar);
  return bar;
}

/** By hand: what plays stops there. */
function go(card, to) {
  stop(card);
  show(card, to);
}

async function show(card, to) {
  const last = card.figure.layout.meta.along.texts.length - 1;
  const step = Math.max(0, Math.min(last, to));
  tell(card, step);
  await card.draw();
  return step < last;
}

/** Which step is seen: in the slider, in words, and in what is drawn next. */
function tell(card, step) {
  const { along } = card.figure.layout.meta;
  const bar = card.part("steps");
  const slider = bar.querySelector("input");
  const text = `${along.label} ${along.texts[step]}`;
  slider.value = step;
  slider.setAttribute("aria-valuetext", text);
  bar.querySelector("output").textContent = text;
  card.until = card.figure.until = step < along.texts.length - 1 ? step : null;
}

function start(card) {
  const last = card.figure.layout.meta.along.texts.length - 1;
  const pause = Math.max(SHORTEST, Math.min(WHOLE / last, 600));
  let step = card.until ?? 0; // from the beginning, once it has come to the end
  const next = async () => {
    if (!document.hidden) {
      if (!card.plot.isConnected || !(await show(card, step++))) return stop(card);
    }
    if (card.playing) card.playing = setTimeout(next, pause);
  };
  card.playing = setTimeout(next);
  showPlaying(card);
}

function stop(card) {
  clearTimeout(card.playing);
  card.playing = 0;
  showPlaying(card);
}

function showPlaying(card, bar = card.part("steps")) {
  const play = bar.querySelector("[data-play]");
  play.textContent = card.playing ? "Stop" : "Play";
}

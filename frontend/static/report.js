// Blocks of a report that is written: moved by drag, or by buttons and keys, in the order in which they are then sent.

const form = document.querySelector("[data-report]");
const box = form?.querySelector("[data-blocks]");
const announce = text => (document.querySelector("#announce").textContent = text);
let changed = false;

/** @param {HTMLElement} block @param {number} by places */
function move(block, by) {
  const other = by < 0 ? block.previousElementSibling : block.nextElementSibling;
  if (!other) return;
  if (by < 0) other.before(block);
  else other.after(block);
  placed(block);
}

function placed(block) {
  changed = true;
  const all = [...box.children];
  announce(`Moved to place ${all.indexOf(block) + 1} of ${all.length}; save to keep it`);
}

function listenToGrip(block) {
  const grip = block.querySelector("[data-grip]");
  grip.hidden = false;
  grip.addEventListener("pointerdown", event => {
    event.preventDefault();
    block.classList.add("moving");
    const follow = ({ clientY }) => {
      const before = [...box.children].find(one => one !== block && clientY < one.getBoundingClientRect().top + one.offsetHeight / 2);
      if (before) before.before(block);
      else box.append(block);
    };
    const heard = new AbortController(); // what moves in the document loses the pointer, so the document listens
    const end = () => {
      heard.abort();
      block.classList.remove("moving");
      placed(block);
    };
    document.addEventListener("pointermove", follow, { signal: heard.signal });
    for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, end, { signal: heard.signal });
  });
}

if (box) {
  for (const block of box.children) listenToGrip(block);
  form.addEventListener("click", event => {
    const button = event.target.closest("[data-move]");
    if (!button) return;
    event.preventDefault(); // without script it is sent
    move(button.closest("[data-block]"), Number(button.dataset.move));
    button.focus();
  });
  form.addEventListener("input", () => (changed = true));
  form.addEventListener("submit", () => (changed = false));
  addEventListener("beforeunload", event => changed && event.preventDefault());
  document.querySelector(".notice.bad")?.focus();
}

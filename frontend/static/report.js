// Blocks of a report that is written: moved by drag, or by buttons and keys, in the order in which they are then sent.

const form = document.querySelector("[data-report]");
const box = form?.querySelector("[data-blocks]");
const announce = text => (document.querySelector("#announce").textContent = text);
let changed = form?.hasAttribute("data-draft");

/** @param {HTMLElement} block @param {number} by places */
function move(block, by) {
  const next = by < 0 ? "previousElementSibling" : "nextElementSibling";
  let other = block[next];
  while (other?.hidden) other = other[next];
  if (!other) return;
  if (by < 0) other.before(block);
  else other.after(block);
  placed(block);
}

function placed(block) {
  changed = true;
  const all = [...box.children].filter(one => !one.hidden);
  announce(`Moved to place ${all.indexOf(block) + 1} of ${all.length}; save to keep it`);
}

/** A block that is removed is not sent; until then it can be put back. @param {HTMLElement} block */
function remove(block) {
  const back = document.createElement("button");
  const show = there => (block.disabled = block.hidden = !there); // what is disabled is not sent
  back.type = "button";
  back.className = "light tiny";
  back.textContent = `Put ${block.querySelector("legend").textContent} back`;
  back.addEventListener("click", () => {
    show(true);
    back.remove();
    block.querySelector("[data-remove]").focus();
  });
  form.querySelector("[data-removed]").append(back);
  back.focus();
  show(false);
  changed = true;
  announce("Removed; save to keep it so");
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
    const button = event.target.closest("[data-move], [data-remove]");
    if (!button) return;
    event.preventDefault(); // without script it is sent
    const block = button.closest("[data-block]");
    if (!button.dataset.move) return remove(block);
    move(block, Number(button.dataset.move));
    button.focus();
  });
  form.addEventListener("input", () => (changed = true));
  form.addEventListener("submit", () => (changed = false));
  document.querySelector("[data-leave]").addEventListener("click", () => (changed = false));
  addEventListener("beforeunload", event => changed && event.preventDefault());
  document.querySelector(".notice.bad")?.focus();
}

// The search box: what is not understood is underlined where it stands and explained below, and what may come next is
// offered, as one types. The rules are the server's (/api/search); without script the page says the same once it is sent.

const WAIT = 120; // after the last key, ms
const base = document.documentElement.dataset.root || "";

/** Characters as the server counts them, code points, to places in a string of the browser. @param {string} text */
const place = (text, characters) => [...text].slice(0, characters).join("").length;
const counted = (text, at) => [...text.slice(0, at)].length;

class Box {
  constructor(form) {
    this.form = form;
    this.input = form.querySelector("input[type=search]");
    this.echo = form.querySelector(".echo");
    this.panel = document.createElement("div");
    this.panel.className = "offered";
    this.panel.hidden = true;
    this.words = Object.assign(document.createElement("p"), { className: "small muted" });
    this.wrong = Object.assign(document.createElement("ul"), { className: "faults" });
    this.list = Object.assign(document.createElement("ul"), { id: "search-list" });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "What may come next");
    this.panel.append(this.wrong, this.list, this.words);
    form.append(this.panel);
    const combobox = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "search-list" };
    for (const [name, value] of Object.entries(combobox)) this.input.setAttribute(name, value);
    this.turn = 0;
    this.chosen = -1;
    this.offers = [];
    this.input.addEventListener("input", () => this.soon());
    this.input.addEventListener("focus", () => this.soon());
    this.input.addEventListener("scroll", () => this.follow());
    this.input.addEventListener("keydown", event => this.key(event));
    this.input.addEventListener("click", () => this.soon());
    form.addEventListener("focusout", event => form.contains(event.relatedTarget) || this.close());
    if (this.input.value) this.ask(false);
  }

  soon() {
    this.draw([]);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(true), WAIT);
  }

  async ask(opens) {
    const turn = ++this.turn;
    const text = this.input.value;
    const caret = counted(text, this.input.selectionStart ?? text.length);
    const address = `${base}${this.form.dataset.search}?${new URLSearchParams({ q: text, caret: `${caret}` })}`;
    let found;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      found = await answer.json();
    } catch {
      return; // offline: the line is sent all the same
    }
    if (turn !== this.turn) return;
    const isTyping = opens && document.activeElement === this.input;
    // Whoever is still typing a word has made no mistake yet.
    const told = found.faults.filter(fault => !isTyping || fault.end < caret || found.suggestions.length === 0);
    this.draw(told);
    if (!isTyping) return;
    this.wrong.replaceChildren(...told.map(fault => this.said(text, fault)));
    this.words.textContent = text.trim() ? found.words : "Text, field:value, field>1, or, -not, (parentheses), \"several words\"";
    this.offer(found.suggestions);
  }

  said(text, fault) {
    const item = document.createElement("li");
    const mark = document.createElement("mark");
    mark.textContent = text.slice(place(text, fault.start), place(text, fault.end));
    item.append(mark, ` ${fault.message}. `);
    if (fault.allowed) item.append(Object.assign(document.createElement("span"), { className: "muted", textContent: `Allowed: ${fault.allowed}` }));
    return item;
  }

  /** Underlines lie behind the field, on the same letters. */
  draw(faults) {
    const text = this.input.value;
    const parts = [];
    let at = 0;
    for (const fault of faults) {
      const [start, end] = [Math.max(at, place(text, fault.start)), place(text, fault.end)];
      if (end <= start) continue;
      parts.push(text.slice(at, start), Object.assign(document.createElement("mark"), { textContent: text.slice(start, end) }));
      at = end;
    }
    this.echo.replaceChildren(...parts, text.slice(at));
    this.input.setAttribute("aria-invalid", faults.length ? "true" : "false");
    this.follow();
  }

  follow() {
    this.echo.scrollLeft = this.input.scrollLeft;
  }

  offer(offers) {
    this.offers = offers;
    this.chosen = -1;
    this.list.replaceChildren(
      ...offers.map((offer, i) => {
        const item = Object.assign(document.createElement("li"), { id: `offer-${i}` });
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", "false");
        item.append(Object.assign(document.createElement("code"), { textContent: offer.text }));
        item.append(Object.assign(document.createElement("small"), { textContent: offer.about }));
        item.addEventListener("pointerdown", event => (event.preventDefault(), this.take(i)));
        return item;
      }),
    );
    this.input.removeAttribute("aria-activedescendant");
    this.panel.hidden = !(offers.length || this.wrong.children.length || this.words.textContent);
    this.input.setAttribute("aria-expanded", `${!this.panel.hidden && offers.length > 0}`);
  }

  close() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.panel.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
  }

  step(by) {
    const count = this.offers.length;
    if (!count) return;
    this.chosen = (this.chosen + by + count + (this.chosen < 0 && by < 0 ? 1 : 0)) % count;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", `${i === this.chosen}`));
    const item = this.list.children[this.chosen];
    item.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", item.id);
  }

  /** An offer takes the place of the word before the caret; a field goes on with its value, a value with a space. */
  take(i) {
    const offer = this.offers[i];
    const text = this.input.value;
    const [start, end] = [place(text, offer.start), place(text, offer.end)];
    const goesOn = /[:=><~]$/.test(offer.text);
    const put = offer.text + (goesOn ? "" : " ");
    this.input.setRangeText(put, start, end, "end");
    if (!goesOn && text.slice(end).startsWith(" ")) this.input.setRangeText("", start + put.length, start + put.length + 1, "end");
    this.input.focus();
    this.soon();
  }

  key(event) {
    const open = !this.panel.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!open) return this.soon();
      event.preventDefault();
      this.step(event.key === "ArrowDown" ? 1 : -1);
    } else if ((event.key === "Enter" || event.key === "Tab") && open && this.chosen >= 0) {
      event.preventDefault();
      this.take(this.chosen);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    }
  }
}

for (const form of document.querySelectorAll("form[data-search]")) new Box(form);

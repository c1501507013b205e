// The launch form's life: the live plan, problems under their fields, what was changed from the preset, and copying.
// The form works without any of this.

/** The number typed (thousands parted by spaces), or the text itself. @param {string} text */
export function number(text) {
  const plain = text.replace(/[\s\u2009\u202f]/g, "").replace("−", "-");
  return plain !== "" && Number.isFinite(Number(plain)) ? Number(plain) : text;
}

/** @param {string} kind @param {string} text */
function value(kind, text) {
  const parts = text.split(",").map(part => part.trim()).filter(Boolean);
  if (kind === "check") return text === "true";
  if (kind === "list" || kind === "checks") return parts.map(number);
  if (kind === "milestones")
    return parts.map(part => {
      const [epoch, rate = ""] = part.split(":");
      return { epoch: number(epoch.trim()), learning_rate: number(rate.trim()) };
    });
  return kind === "number" ? number(text) : text;
}

// Studies there may be several of: `planes.0`, `planes.1`, ... in the form.
const LISTS = ["ood", "planes", "tunnels"];

/** The spec a form means; the same rules as forms.to_document on the server.
 * @param {{name: string, kind: string, text: string}[]} controls each control once, check boxes joined by ", "
 * @param {string[]} on rows that are switched on, in order: `methods.random`, `shift`, `planes.0` */
export function toSpec(controls, on) {
  const spec = { methods: [] };
  const chosen = controls.find(control => control.name === "network.architecture")?.text;
  const rows = new Map(on.map(name => [name, name.startsWith("methods.") ? { method: name.slice(8), options: {} } : {}]));
  const studies = new Set(["shift", "seeds", "connectivity", "instability", ...LISTS]);
  for (const { name, kind, text } of controls) {
    let [part, ...path] = name.split(".");
    const isRow = part === "methods" || studies.has(part);
    if (text === "" && kind !== "list" && (part === "methods" || (kind !== "checks" && (isRow || kind !== "milestones")))) continue;
    let target;
    if (isRow) {
      const row = rows.get(part === "methods" || LISTS.includes(part) ? `${part}.${path.shift()}` : part);
      if (!row) continue;
      target = path[0] === "options" ? row.options : row;
      path = path.slice(-1);
    } else {
      if (part === "network" && path[0] === "options") {
        if (path[1] !== chosen) continue;
        path = ["options", path[2]];
      }
      target = spec[part] ??= {};
      for (const step of path.slice(0, -1)) target = target[step] ??= {};
    }
    target[path.at(-1)] = value(kind, text);
  }
  for (const [name, row] of rows) {
    const part = name.split(".")[0];
    if (part === "methods" || LISTS.includes(part)) (spec[part] ??= []).push(row);
    else spec[part] = row;
  }
  return spec;
}

/** A field as the form names it. @param {string} field @param {any} spec @param {string[]} on as for toSpec */
export function place(field, spec, on) {
  const [part, ...path] = field.replace(/^spec\./, "").split(".");
  if (part === "methods" && spec.methods[path[0]]) {
    const rest = path.length === 2 && path[1] === "method" ? ["on"] : path.slice(1);
    return ["methods", spec.methods[path[0]].method, ...rest].join(".");
  }
  if (LISTS.includes(part)) {
    const row = on.filter(name => name.startsWith(`${part}.`))[path[0]];
    if (row) return `${row}.${path[1] ?? "on"}`;
  } else if (on.includes(part)) return `${part}.${path[0] ?? "on"}`;
  if (part === "network" && path[0] === "options") return ["network.options", spec.network?.architecture, ...path.slice(1)].join(".");
  if (part === "training" && path[0] === "milestones") return "training.milestones";
  if (part === "evaluation" && path[0] === "splits") return "evaluation.splits";
  return [part, ...path].join(".");
}

/** A field as people say it; as display.crumbs on the server. @param {string} field as the form names it */
export function crumbs(field) {
  const text = field.split(".").filter(part => part !== "options" && part !== "on").join(" › ").replaceAll("_", " ");
  return text ? text[0].toUpperCase() + text.slice(1) : "The spec";
}

const form = globalThis.document?.querySelector("[data-launch]");
if (form) {
  const plan = document.querySelector("#plan");
  // Problems are told under fields that were changed here, or that the server found wrong in what was sent.
  const touched = new Set([...form.querySelectorAll("[aria-invalid]")].map(bad => bad.dataset.control || bad.name));
  let running = null;
  let timer = 0;

  const read = () => {
    const shown = [...form.querySelectorAll("[data-kind]")].filter(element => !element.closest("[data-when-dataset][hidden]"));
    const controls = shown.map(element => {
      const { kind, control: name } = element.dataset;
      if (kind === "checks") return { name, kind, text: [...element.querySelectorAll("input:checked")].map(box => box.value).join(", ") };
      if (kind === "check") return { name, kind, text: `${element.checked}` };
      return { name, kind, text: element.value.trim() };
    });
    return toSpec(controls, rowsOn());
  };

  const typedName = () => form.elements.name.value.trim() || undefined;

  const rowsOn = () => [...form.querySelectorAll("[data-row]:checked")].map(box => box.dataset.row);

  const element = name => form.querySelector(`[data-control="${CSS.escape(name)}"]`) || form.querySelector(`[name="${CSS.escape(name)}"]`);

  function showProblems(problems, spec, all) {
    for (const bad of form.querySelectorAll("[aria-invalid]")) bad.removeAttribute("aria-invalid");
    for (const row of form.querySelectorAll(".method.bad")) row.classList.remove("bad");
    for (const old of form.querySelectorAll(".field .err, .method .err")) old.remove();
    const on = rowsOn();
    let shown = 0;
    for (const problem of problems) {
      const name = place(problem.field, spec, on);
      const field = element(name);
      if (!field || (!all && !touched.has(name) && ![...touched].some(other => name.startsWith(other)))) continue;
      shown++;
      const note = document.createElement("p");
      note.className = "err";
      note.id = `err-${name}`;
      note.textContent = `✗ ${problem.message}${problem.allowed ? ` (allowed: ${problem.allowed})` : ""}`;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", [form.querySelector(`#help-${CSS.escape(name)}`)?.id, note.id].filter(Boolean).join(" "));
      (field.closest(".field") || field.closest(".method"))?.append(note);
      for (let fold = field.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      field.closest(".method")?.classList.add("bad");
    }
    return shown;
  }

  async function estimate() {
    running?.abort();
    running = new AbortController();
    const spec = read();
    plan.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.dataset.estimate, {
        method: "POST",
        signal: running.signal,
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ name: typedName(), spec }),
      });
      const document_ = await answer.json();
      if (answer.ok) {
        showProblems(document_.missing.map(one => ({ field: one.field, message: one.how })), spec, false);
        showPlan(document_);
      } else {
        showProblems(document_.errors, spec, false);
        const n = document_.errors.length;
        const told = document_.errors.map(e => `${crumbs(place(e.field, spec, rowsOn()))}: ${e.message}`).join("; ");
        note(n ? `${n} field${n > 1 ? "s" : ""} to change first. ${told}` : document_.detail, true);
      }
    } catch (error) {
      if (error.name !== "AbortError") note("The estimate is unavailable; the form still works.", false);
      else return;
    }
    plan.removeAttribute("aria-busy");
  }

  function note(text, bad) {
    const line = document.querySelector("[data-note]");
    line.textContent = text;
    line.classList.toggle("err", bad);
  }

  /** The server renders the plan; the script asks it for the same lines. @param {any} answer */
  function showPlan(answer) {
    const set = (name, text) => {
      for (const slot of document.querySelectorAll(`[data-slot="${name}"]`)) slot.textContent = text;
    };
    note("", false);
    for (const [name, text] of Object.entries(answer.words)) set(name, text);
    set("basis", answer.basis);
    set("disk", size(answer.bytes));
    set("queue", answer.ahead ? `${answer.ahead} ahead` : "starts at once");
    const total = answer.kinds.reduce((sum, kind) => sum + kind.seconds, 0) || 1;
    const shade = i => Math.max(0.2, 0.85 - 0.17 * i);
    plan.querySelector("[data-bar]").replaceChildren(
      ...answer.kinds.map((kind, i) => Object.assign(document.createElement("i"), { style: `flex:${kind.seconds / total};opacity:${shade(i)}` })),
    );
    plan.querySelector("[data-kinds]").replaceChildren(
      ...answer.kinds.flatMap((kind, i) => {
        const term = document.createElement("dt");
        term.append(Object.assign(document.createElement("i"), { style: `opacity:${shade(i)}` }), kind.kind);
        term.append(Object.assign(document.createElement("small"), { className: "muted", textContent: ` × ${kind.count}` }));
        return [term, Object.assign(document.createElement("dd"), { textContent: kind.here === kind.count ? "here" : duration(kind.seconds) })];
      }),
    );
    for (const line of plan.querySelectorAll("[data-figure]")) {
      const fed = answer.figures.includes(line.dataset.figure);
      line.querySelector(".glyph").textContent = fed ? "✓" : "–";
      line.classList.toggle("muted", !fed);
    }
    plan.querySelector("[data-warnings]").replaceChildren(
      ...answer.warnings.map(text => Object.assign(document.createElement("li"), { textContent: `⚠ ${text}` })),
    );
    set("open-basis", answer.open.basis);
    plan.querySelector("[data-open]").hidden = !answer.open.claims.length;
    plan.querySelector("[data-open-list]").replaceChildren(
      ...answer.open.claims.map(line => Object.assign(document.createElement("li"), { textContent: `(${line.claim}) ${line.words}` })),
    );
    const missing = plan.querySelector("[data-missing]");
    missing.hidden = !answer.missing.length;
    missing.querySelector("a").textContent = getFirst(answer.missing);
    const look = plan.querySelector("[data-look]");
    look.hidden = !answer.look.words;
    look.textContent = answer.look.words;
    const same = plan.querySelector("[data-same]");
    same.hidden = !answer.same;
    if (answer.same) {
      const link = Object.assign(document.createElement("a"), { href: `${document.documentElement.dataset.root || ""}/experiments/${answer.same.slug}`, textContent: answer.same.name });
      same.replaceChildren("The same spec is here already: ", link);
    }
  }

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(estimate, 300);
  });
  form.addEventListener("change", event => {
    const target = event.target.closest("[data-control]") || event.target;
    touched.add(target.dataset.control || target.name);
    marks();
    clearTimeout(timer);
    timer = setTimeout(estimate, 300);
  });

  // A changed field is marked with a dot and "was 40"; one click restores it. The server renders the marks' texts.
  function marks() {
    for (const mark of form.querySelectorAll("[data-was]")) {
      const field = element(mark.dataset.for);
      const now = field.dataset.kind === "checks" ? [...field.querySelectorAll("input:checked")].map(box => box.value).join(", ") : field.type === "checkbox" ? `${field.checked}` : field.value.trim();
      mark.hidden = now === mark.dataset.was;
    }
    const dataset = element("data.dataset")?.value;
    for (const only of form.querySelectorAll("[data-when-dataset]")) only.hidden = !only.dataset.whenDataset.split(" ").includes(dataset);
    const architecture = element("network.architecture")?.value;
    for (const only of form.querySelectorAll("[data-when-architecture]")) only.hidden = only.dataset.whenArchitecture !== architecture;
  }

  form.addEventListener("click", async event => {
    const restore = event.target.closest("[data-was] button");
    if (restore) {
      const { for: name, was } = restore.closest("[data-was]").dataset;
      const field = element(name);
      if (field.dataset.kind === "checks") for (const box of field.querySelectorAll("input")) box.checked = was.split(", ").includes(box.value);
      else if (field.type === "checkbox") field.checked = was === "true";
      else field.value = was;
      field.dispatchEvent(new Event("change", { bubbles: true }));
      field.focus();
    }
    const as = event.target.closest("[data-copy-as]")?.dataset.copyAs;
    if (as) {
      const { copy } = await import("./app.js");
      const body = { name: typedName(), spec: read() };
      copy(as === "curl" ? curl(body) : python(body), as === "curl" ? "curl command copied" : "Python copied");
    }
  });

  const curl = body =>
    `curl -X POST ${location.origin}${document.documentElement.dataset.root || ""}/api/experiments -H 'Content-Type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
  const python = body =>
    `import json, urllib.request\n\nbody = json.loads(r'''${JSON.stringify(body, null, 2).replaceAll("'", "\\u0027")}''')\nrequest = urllib.request.Request("${location.origin}${document.documentElement.dataset.root || ""}/api/experiments", json.dumps(body).encode(), {"Content-Type": "application/json"})\nprint(json.load(urllib.request.urlopen(request)))\n`;

  document.querySelector("#problems")?.focus();
  marks();
  if (form.dataset.planned !== "true") estimate();
}

/** As the template says it. @param {{title: string, bytes: number?}[]} missing */
export function getFirst(missing) {
  const names = missing.map(one => one.title + (one.bytes ? ` (${size(one.bytes)})` : ""));
  return `Get first: ${[...new Set(names)].join(", ")}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.floor(seconds / 3600)} h ${String(Math.round((seconds % 3600) / 60) % 60).padStart(2, "0")}`;
  return `${Math.round(seconds / 86400)} days`;
}

/** @param {number} bytes */
export function size(bytes) {
  for (const [unit, scale] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (bytes >= scale) return `${(bytes / scale).toFixed(bytes / scale < 10 ? 1 : 0)} ${unit}`;
  return `${bytes} B`;
}

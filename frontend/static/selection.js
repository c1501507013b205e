// Which solutions are chosen, as sorted arrays of their indices, and what changes that. Pure; the page's own is in chosen.js.

/** @param {Iterable<number>} indices @returns {number[]} sorted, each once */
export const tidy = indices => [...new Set(indices)].sort((a, b) => a - b);

/** Ranges of indices. @param {number[]} indices @returns {string} such as "12-40,77" */
export function encode(indices) {
  const parts = [];
  const sorted = tidy(indices);
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i++;
    parts.push(sorted[i] === first ? `${first}` : `${first}-${sorted[i]}`);
  }
  return parts.join(",");
}

/** What is no index or range is left out; ranges are cut at a million so that no link can hang a tab.
 * @param {string | null} text @returns {number[]} */
export function decode(text) {
  const indices = [];
  for (const part of (text || "").split(",")) {
    const match = /^\s*(\d{1,7})(?:-(\d{1,7}))?\s*$/.exec(part);
    if (!match) continue;
    const last = Number(match[2] ?? match[1]);
    for (let n = Number(match[1]); n <= last && indices.length < 1e6; n++) indices.push(n);
  }
  return tidy(indices);
}

/** @param {number[]} chosen @param {number[]} more */
export const add = (chosen, more) => tidy([...chosen, ...more]);

/** @param {number[]} chosen @param {number[]} less */
export const remove = (chosen, less) => {
  const gone = new Set(less);
  return chosen.filter(n => !gone.has(n));
};

/** All of them in: all out. Otherwise: all in. @param {number[]} chosen @param {number[]} some */
export const toggle = (chosen, some) => {
  const now = new Set(chosen);
  return some.length && some.every(n => now.has(n)) ? remove(chosen, some) : add(chosen, some);
};

/** What a click or a brush over `some` makes of `chosen`: Shift adds, Alt removes, else it replaces; the same again clears.
 * @param {number[]} chosen @param {number[]} some @param {{shiftKey?: boolean, altKey?: boolean}} [keys] */
export function choose(chosen, some, keys = {}) {
  if (keys.altKey) return remove(chosen, some);
  if (keys.shiftKey) return add(chosen, some);
  return encode(chosen) === encode(some) ? [] : tidy(some);
}

/** @param {number[]} chosen @param {Map<number, {method?: string | null, role?: string, accuracy?: number | null}>} solutions
 * @returns {{groups: [string, number][], accuracy: [number, number] | null}} counts by method or role, and the range of accuracy */
export function describe(chosen, solutions) {
  const groups = new Map();
  const accuracies = [];
  for (const n of chosen) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const name = kindOf(solution);
    groups.set(name, (groups.get(name) || 0) + 1);
    if (solution.accuracy != null) accuracies.push(solution.accuracy);
  }
  const range = accuracies.length ? /** @type {[number, number]} */ ([Math.min(...accuracies), Math.max(...accuracies)]) : null;
  return { groups: [...groups], accuracy: range };
}

/** Which cuts through the landscape go through that many solutions. @param {number} count @returns {string[]} */
export const cutsThrough = count => ({ 2: ["radial", "line"], 3: ["affine"] })[count] ?? [];

const kindOf = solution => solution.method || (solution.role === "optimum" ? "independent" : "trajectory");

/** What stands for the chosen solutions in a picture that does not show all of them: those of the same run and method,
 * else the run's optimum, else its checkpoints.
 * @param {number[]} chosen @param {Set<number>} shown indices in the picture
 * @param {Map<number, {run: number, method?: string | null, role?: string}>} solutions
 * @returns {{marked: number[], absent: number[]}} absent: chosen ones that are not in the picture */
export function marks(chosen, shown, solutions) {
  const absent = chosen.filter(n => !shown.has(n));
  const marked = new Set(chosen.filter(n => shown.has(n)));
  /** @type {Map<string, number[]>} */
  const groups = new Map();
  for (const n of absent.length ? shown : []) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const key = `${solution.run}/${kindOf(solution)}`;
    groups.set(key, [...(groups.get(key) ?? []), n]);
  }
  for (const n of absent) {
    const solution = solutions.get(n);
    if (!solution) continue;
    const kinds = [kindOf(solution), "independent", "trajectory"];
    const found = kinds.map(kind => groups.get(`${solution.run}/${kind}`)).find(Boolean);
    for (const stand of found ?? []) marked.add(stand);
  }
  return { marked: tidy(marked), absent };
}

// A figure as the server sends it, made into what Plotly takes. Pure.

const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

/** Base64 arrays as typed arrays, once, so that nothing is decoded again at every brush. */
export function decodeArrays(value) {
  if (Array.isArray(value)) return value.map(decodeArrays);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.bdata === "string") return decodeArray(value);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decodeArrays(item)]));
}

function decodeArray({ bdata, dtype, shape }) {
  const bytes = Uint8Array.from(atob(bdata), letter => letter.charCodeAt(0));
  const flat = new TYPES[dtype](bytes.buffer);
  const [rows, columns] = String(shape ?? "").split(",").map(Number);
  if (columns === undefined) return flat;
  return Array.from({ length: rows }, (_, i) => flat.subarray(i * columns, (i + 1) * columns));
}

/** @param {{data: object[], layout: object, words: object}} document_ with its arrays encoded */
export const decode = ({ data, layout, words }) => ({ ...decodeArrays({ data, layout }), words });

/** The index of the solution that a point's customdata stands for, -1 for none. @param {number | number[] | null} custom */
export const indexOf = custom => (custom == null ? -1 : typeof custom === "object" ? custom[0] : custom);

/** Indices of the solutions behind a point: a mark's own, or the row and column of a heat map's cell. */
export function indicesAt(point, figure) {
  const { rows, columns } = figure.layout.meta ?? {};
  if (point.data?.type === "heatmap" && rows) {
    const [i, j] = point.pointIndex ?? point.pointNumber ?? [];
    return [rows[i], columns[j]].filter(index => index !== undefined);
  }
  return [indexOf(point.customdata)].filter(index => index >= 0);
}

/** Indices of every solution in a figure. @returns {Set<number>} */
export function indicesIn(figure) {
  const { rows = [], columns = [] } = figure.layout.meta ?? {};
  const marked = figure.data.flatMap(trace => Array.from(trace.customdata ?? [], indexOf));
  return new Set([...marked, ...rows, ...columns].filter(index => index >= 0));
}

/** Every mark that is a solution, by group, then x.
 * @param {Set<string>} hidden groups of the legend that are off
 * @returns {{trace: number, point: number, index: number, x: number}[]} */
export function solutionMarks(figure, hidden) {
  const found = figure.data.flatMap((trace, number) => {
    if (!trace.customdata || hidden.has(trace.legendgroup) || !String(trace.mode).includes("markers")) return [];
    const marks = Array.from(trace.customdata, (custom, point) => ({ trace: number, point, index: indexOf(custom), x: trace.x[point] }));
    return marks.filter(({ point }) => figure.until == null || !(trace.meta?.at?.[point] > figure.until)); // those there are at this step
  });
  return found.sort((a, b) => a.trace - b.trace || a.x - b.x);
}

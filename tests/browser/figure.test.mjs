// The pure parts of figures on a page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { apart, fitted, inward, rangeAsked, sharedRanges, sharedScales, zoomed } from "../../frontend/static/figure/axes.js";
import { absentWords } from "../../frontend/static/figure/caption.js";
import { compose, runs, standIns } from "../../frontend/static/figure/compose.js";
import { decodeArrays, indexOf, indicesAt, indicesIn, solutionMarks } from "../../frontend/static/figure/decode.js";
import { many, turned } from "../../frontend/static/figure/webgl.js";

const encoded = (array, more = {}) => ({ bdata: Buffer.from(array.buffer).toString("base64"), ...more });
const ink = name => `ink of ${name}`;
const all = { hidden: new Set(), only: false, comparing: false, ink };
const map = () => ({
  data: [
    { type: "scatter", mode: "markers", legendgroup: "random", customdata: [4, 7], x: [0.9, 0.1], y: [1, 2], marker: { size: 6, symbol: "circle" } },
    { type: "scatter", mode: "lines", legendgroup: "trajectory", customdata: [1, 2], x: [0, 1], y: [0, 1], line: { width: 1.5 }, opacity: 0.8 },
    { type: "scatter", mode: "lines", legendgroup: "theory", x: [0, 1], y: [0, 1] },
  ],
  layout: { xaxis: { range: [0, 1] }, annotations: [{ text: "a name" }] },
});
const heat = () => ({ data: [{ type: "heatmap", z: [[0, 1], [1, 0], [1, 1]] }], layout: { meta: { rows: [5, 6, 9], columns: [6, 2] } } });

test("arrays come back as the numbers that were encoded, however deep they lie", () => {
  const document_ = { data: [{ x: encoded(Float32Array.of(0.5, -2), { dtype: "f4" }), name: "a" }], n: null };
  assert.deepEqual(decodeArrays(document_), { data: [{ x: Float32Array.of(0.5, -2), name: "a" }], n: null });
  const table = encoded(Int16Array.of(1, 2, 3, 4, 5, 6), { dtype: "i2", shape: "2, 3" });
  assert.deepEqual(decodeArrays(table), [Int16Array.of(1, 2, 3), Int16Array.of(4, 5, 6)]);
});

test("a point knows its solution, alone or first among what it tells, and heat maps both of a cell", () => {
  assert.deepEqual([3, [8, "run 2"], null, undefined].map(indexOf), [3, 8, -1, -1]);
  assert.deepEqual(indicesAt({ customdata: [8, "x"] }, map()), [8]);
  assert.deepEqual(indicesAt({}, map()), []);
  assert.deepEqual(indicesAt({ data: { type: "heatmap" }, pointIndex: [2, 1] }, heat()), [9, 2]);
  assert.deepEqual([...indicesIn(heat())].sort(), [2, 5, 6, 9]);
  assert.deepEqual([...indicesIn(map())].sort(), [1, 2, 4, 7]);
});

test("keys walk over marks by group, then x, and leave out what the legend hides", () => {
  const found = solutionMarks(map(), new Set());
  assert.deepEqual(found.map(mark => [mark.index, mark.point]), [[7, 1], [4, 0]]);
  assert.deepEqual(solutionMarks(map(), new Set(["random"])), []);
});

test("what is not chosen fades, what is chosen grows, and the figure itself stays as it came", () => {
  const figure = map();
  const { data, layout } = compose(figure, [7], all);
  assert.deepEqual(data[0].marker.opacity, [0.3, 1]);
  assert.deepEqual(data[0].marker.size, [6, 8]);
  assert.deepEqual(data[0].marker.line, { width: [0, 1.5], color: ["ink of card", "ink of text"] });
  assert.deepEqual([data[1].opacity, data[1].line.width], [0.3, 1.5], "a line with none of them");
  assert.equal(data[2].opacity, undefined, "what is no solution keeps its ink");
  layout.annotations[0].ay = 3;
  assert.deepEqual(figure, map());
});

test("a line through a chosen solution is twice as wide", () => {
  const { data } = compose(map(), [2], all);
  assert.deepEqual([data[1].opacity, data[1].line.width], [1, 3]);
});

test("only these hides everything else that stands for solutions", () => {
  const { data } = compose(map(), [7], { ...all, only: true });
  assert.deepEqual(data[0].marker.opacity, [0, 1]);
  assert.deepEqual([data[1].visible, data[2].visible], [false, false]);
});

test("the legend hides groups, chosen or not", () => {
  const { data } = compose(map(), [7], { ...all, hidden: new Set(["random"]) });
  assert.deepEqual(data.map(trace => trace.visible), [false, true, true]);
});

test("side by side each drawing has axes of its own", () => {
  const figure = map();
  assert.equal(compose(figure, [], all).layout.xaxis, figure.layout.xaxis);
  assert.notEqual(compose(figure, [], { ...all, comparing: true }).layout.xaxis, figure.layout.xaxis);
});

test("chosen rows and columns of a heat map lie under outlined bands", () => {
  const { data, layout } = compose(heat(), [5, 6], all);
  assert.equal(data[0].opacity, undefined);
  const boxes = layout.shapes.map(({ x0, x1, y0, y1, line }) => [x0, x1, y0, y1, line.width]);
  assert.deepEqual(boxes, [[-0.5, 1.5, -0.5, 1.5, 5], [-0.5, 1.5, -0.5, 1.5, 2], [-0.5, 0.5, -0.5, 2.5, 5], [-0.5, 0.5, -0.5, 2.5, 2]]);
});

test("neighbours that are true make one run", () => {
  assert.deepEqual(runs([true, true, false, true, false]), [[0, 1], [3, 3]]);
  assert.deepEqual(runs([]), []);
});

test("a picture without a chosen solution marks others for it once they are known", () => {
  const known = new Map([[3, { run: 0, method: "random" }], [4, { run: 0, method: "random" }], [7, { run: 1, method: "random" }]]);
  assert.deepEqual(standIns(map(), [3], known), { marked: [4], absent: [3] });
  assert.deepEqual(standIns(map(), [3], null), { marked: [3], absent: [] });
  assert.deepEqual(standIns({ data: [], layout: {} }, [3], known), { marked: [3], absent: [] });
});

test("it is said how many of the selected are not in the picture", () => {
  assert.equal(absentWords(1, 1, false), "The selected solution is not in this picture.");
  assert.equal(absentWords(2, 2, false), "None of the selected is in this picture.");
  assert.match(absentWords(1, 3, true), /^1 of 3 selected is not in this picture; marked are points of the same run/);
  assert.match(absentWords(2, 3, false), /^2 of 3 selected are not in this picture\.$/);
});

test("a zoom is read off what Plotly tells, and off the address", () => {
  assert.deepEqual(rangeAsked("x", { "xaxis.range[0]": 0.123456, "xaxis.range[1]": 2 }), [0.1235, 2]);
  assert.deepEqual(rangeAsked("y", { "yaxis.range": ["a", "b"] }), ["a", "b"]);
  assert.equal(rangeAsked("x", { "xaxis.autorange": true }), null);
  assert.equal(rangeAsked("y", { "xaxis.autorange": true }), undefined);
  const asked = new URLSearchParams("plane.x=.5,.8&plane.y=nonsense&other.y=1,2");
  assert.deepEqual(zoomed("plane", { xaxis: { title: "t" } }, asked), { xaxis: { title: "t", range: [0.5, 0.8], autorange: false } });
});

test("shared axes hold every plot, and an axis that one plot cannot share is nobody's", () => {
  const plots = [{ xaxis: [0, 3], yaxis: [1, 2], xaxis2: null }, { xaxis: [-1, 2], xaxis2: [0, 1] }];
  assert.deepEqual(sharedRanges(plots), { xaxis: [-1, 3], yaxis: [1, 2] });
  assert.deepEqual(sharedRanges([]), {});
});

test("shared colour scales hold the values of every map at the same place", () => {
  const map = (zmin, zmax) => ({ type: "heatmap", zmin, zmax });
  const figures = [[map(0, 0.4), { type: "scatter" }, map(-1, 1)], [map(0.1, 0.9), map(5, 6)], [{ type: "scatter" }]];
  assert.deepEqual(sharedScales(figures), { 0: [0, 0.9], 1: [5, 6], 2: [-1, 1] });
  assert.deepEqual(sharedScales([]), {});
});

test("a group of the legend, or an experiment on one picture with others, is switched off", () => {
  const figure = { data: ["a", "b"].map(slug => ({ type: "scatter", legendgroup: "random", meta: { experiment: `e:${slug}` } })), layout: {} };
  const seen = hidden => compose(figure, [], { ...all, hidden: new Set(hidden) }).data.map(trace => trace.visible);
  assert.deepEqual(seen(["e:b"]), [true, false]);
  assert.deepEqual(seen(["random"]), [false, false]);
  assert.deepEqual(seen([]), [true, true]);
});

test("names that meet are parted around their mean, in their order, and others stay", () => {
  assert.deepEqual(apart([10, 50, 12], 10), [6, 50, 16]);
  assert.deepEqual(apart([100, 0], 15), [100, 0]);
  assert.deepEqual(apart([], 15), []);
  for (let turn = 0; turn < 200; turn++) {
    const positions = Array.from({ length: 1 + (turn % 9) }, () => 100 * Math.random());
    const placed = apart(positions, 15);
    const order = positions.map((_, i) => i).sort((a, b) => positions[a] - positions[b]);
    for (let i = 1; i < order.length; i++) assert.ok(placed[order[i]] - placed[order[i - 1]] > 15 - 1e-9);
    const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.ok(Math.abs(mean(placed) - mean(positions)) < 1e-9, "moved no further than needed");
  }
});

test("maps are no higher than their width fills, and never higher than was reserved", () => {
  const layout = { height: 552, margin: { t: 44, b: 28, l: 28, r: 4 }, meta: { tall: 0.48 } };
  assert.equal(fitted(layout, 832), 44 + 28 + 0.48 * 800);
  assert.equal(fitted(layout, 5000), 552);
  assert.equal(fitted({ ...layout, meta: {} }, 832), 552, "curves keep their height");
});

test("up to a step, points of later ones are not there, and keys leave them out; the others keep their places", () => {
  const figure = { ...map(), until: 1 };
  figure.data[0].meta = { at: [0, 2] };
  figure.data[1].meta = { at: [1, 1] };
  const { data } = compose(figure, [], all);
  assert.deepEqual(data.map(trace => trace.y), [[1, null], [0, 1], [0, 1]]);
  assert.deepEqual(solutionMarks(figure, new Set()).map(mark => mark.index), [4]);
  figure.until = null;
  assert.deepEqual(compose(figure, [], all).data[0].y, [1, 2]);
  assert.equal(solutionMarks(figure, new Set()).length, 2);
});

test("marks are drawn with WebGL where there are very many of them, and lines never are", () => {
  const cloud = points => ({ type: "scatter", mode: "markers", x: Array(points).fill(0), marker: { symbol: "star" } });
  const line = { type: "scatter", mode: "lines+markers", x: Array(5000).fill(0) };
  assert.deepEqual(many([cloud(1500), cloud(500), line]).map(trace => trace.type), ["scatter", "scatter", "scatter"]);
  const traces = many([cloud(1500), cloud(501), line]);
  assert.deepEqual(traces.map(trace => trace.type), ["scattergl", "scattergl", "scatter"]);
  assert.deepEqual(traces[0].marker, { symbol: "star" });
});

test("arrows turn a surface around its upright, a whole turn in 42 steps, and raise the eye", () => {
  const eye = { x: 1, y: 0, z: 0.5 };
  const once = turned(eye, "ArrowLeft");
  assert.ok(Math.abs(Math.hypot(once.x, once.y) - 1) < 1e-12 && Math.abs(once.y - Math.sin(0.15)) < 1e-12);
  const back = turned(once, "ArrowRight");
  assert.ok(Math.abs(back.x - 1) < 1e-12 && Math.abs(back.y) < 1e-12);
  assert.ok(turned(eye, "ArrowUp").z > 0.6);
  assert.equal(turned({ x: 1, y: 0, z: 0.1 }, "ArrowDown").z, 0.05, "never from below");
});

test("what would be cut at a side is moved in; what is too wide begins at the left", () => {
  assert.deepEqual([inward(-12, 80, 300), inward(250, 310, 300), inward(0, 300, 300), inward(4, 320, 300)], [12, -10, 0, -4]);
});

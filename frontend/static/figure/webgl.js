// WebGL, where the browser has it: for clouds of very many points, which are the same marks on the same axes without it,
// fewer of them; and for surfaces, beside which the maps stand alone where it is absent.

const MANY = 2000; // points that a browser draws and brushes as SVG, as drawing/numbers.py
let has = null;

export function hasWebGL() {
  has ??= Boolean(globalThis.document?.createElement("canvas").getContext("webgl"));
  return has;
}

/** Traces of nothing but marks for WebGL, where there are very many of them. Pure. @param {object[]} traces */
export function many(traces) {
  const clouds = traces.map(trace => trace.type === "scatter" && trace.mode === "markers");
  const points = traces.reduce((sum, trace, i) => sum + (clouds[i] ? trace.x.length : 0), 0);
  return points > MANY ? traces.map((trace, i) => (clouds[i] ? { ...trace, type: "scattergl" } : trace)) : traces;
}

const TURN = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] };

/** Where a camera is after a key: turned around the upright, or raised. Pure.
 * @param {{x: number, y: number, z: number}} eye @param {string} key */
export function turned({ x, y, z }, key) {
  const [around, up] = TURN[key];
  const [cos, sin] = [Math.cos(around), Math.sin(around)];
  return { x: x * cos - y * sin, y: x * sin + y * cos, z: Math.max(0.05, z + up) };
}

/** Surfaces turn by arrows too, for dragging is not for everybody. @param {import("./card.js").Card} card */
export function turnByKeys(card) {
  card.plot.addEventListener("keydown", event => {
    const { scene } = card.plot._fullLayout ?? {};
    if (!scene || !(event.key in TURN)) return;
    event.preventDefault();
    const eye = turned(card.plot._fullLayout.scene.camera.eye, event.key);
    const scenes = Object.keys(card.plot._fullLayout).filter(key => /^scene\d*$/.test(key));
    window.Plotly.relayout(card.plot, Object.fromEntries(scenes.map(name => [`${name}.camera.eye`, eye])));
  });
}

// A picture of a figure to take away, made by the browser.

import { notify, theme } from "../app.js";
import { current, solutionsHere } from "../chosen.js";
import { zoomed } from "./axes.js";
import { element } from "./caption.js";
import { ask, library, page, seen } from "./cards.js";
import { compose, standIns } from "./compose.js";
import { decode } from "./decode.js";

const LEAST = 480; // px of width, and
const USUAL = 960; // of a figure that is not drawn here

/** In the theme seen, the figure's words around it.
 * @param {import("./card.js").Card | undefined} card @param {string} name of the figure @param {"svg" | "png"} format
 * @param {number} px of a PNG's width; 0: twice as wide as seen */
export const saveImage = (card, name, format, px = 0) =>
  save(card, name, format, px).catch(error => notify(`No picture was made (${error.message}); try again`));

async function save(card, name, format, px) {
  const Plotly = await library();
  const frame = Math.max(LEAST, px ? Math.ceil(px / 2) : card?.plot?.clientWidth || USUAL);
  const url = card?.url() ?? `${page.dataset.api}/figures/${name}.json?theme=${theme()}`;
  const { status, document_ } = await ask(`${url}&frame=${frame}`);
  if (status !== 200) return notify(document_.detail);
  const figure = { ...decode(document_), until: card?.until ?? null };
  const { data, layout } = compose(figure, standIns(figure, current(), solutionsHere()).marked, seen);
  if (card) Object.assign(layout, zoomed(name, layout, new URL(location.href).searchParams));
  const { width, height } = layout;
  const scale = format === "svg" ? 1 : px ? px / width : 2;
  const href = await Plotly.toImage({ data, layout }, { format, scale, width, height });
  element("a", { href, download: `${card?.slug ?? page.dataset.slug}-${name}.${format}` }).click();
}

// Looks into a file that a run saved. What it holds is only ever text, cells or pixels: HTML and SVG are shown as
// their source, and images are painted, so that nothing of a file is executed or fetched from elsewhere.

import { call } from "../api.js";
import { h } from "../dom.js";
import { parse, write } from "../exact.js";
import { t } from "../i18n.js";
import { bytes } from "../time.js";
import { readCsv } from "./csv.js";

const MOST_TEXT = 256 * 1024;
const MOST_IMAGE = 16 * 1024 * 1024;
const MOST_ROWS = 200;
const MOST_CELLS = 50;
const IMAGES = new Set(["png", "jpg", "jpeg", "gif", "webp", "avif", "bmp", "ico"]);

/** An element that shows the file at a path of the API, as far as it can be. */
export async function preview(path, { name, size_bytes: size }, signal) {
  const kind = name.split(".").at(-1).toLowerCase();
  if (IMAGES.has(kind)) return size > MOST_IMAGE ? hint(t("preview.large", { bytes: bytes(size) })) : image(path, name, signal);
  if (size === 0) return hint(t("preview.empty"));
  const part = size > MOST_TEXT;
  const answer = await call(path, { signal, headers: part ? { Range: `bytes=0-${MOST_TEXT - 1}` } : {} });
  const raw = new Uint8Array(await answer.arrayBuffer());
  const text = decoded(raw, part);
  if (text === null) return hint(t("preview.binary"));
  const note = part ? hint(t("preview.part", { shown: bytes(raw.length), bytes: bytes(size) })) : null;
  return h("div", {}, note, kind === "csv" || kind === "tsv" ? cells(text, kind === "csv" ? "," : "\t") : h("pre", { class: "code", tabindex: 0, dir: "auto" }, kind === "json" ? pretty(text) : text));
}

const hint = (text) => h("p", { class: "muted" }, text);

// Null for what is no text; a character that the end of a part cuts is left out.
function decoded(raw, part) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(raw, { stream: part });
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

function pretty(text) {
  try {
    return write(parse(text, true), 2);
  } catch {
    return text;
  }
}

// Painted, because the content security policy takes no images but the gateway's own; a picture cannot run anything then.
async function image(path, name, signal) {
  const blob = await (await call(path, { signal })).blob();
  try {
    const bitmap = await createImageBitmap(blob);
    const canvas = h("canvas", { class: "preview-image", role: "img", "aria-label": name, width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    return h("div", {}, canvas, hint(`${canvas.width} × ${canvas.height}`));
  } catch {
    return hint(t("preview.binary"));
  }
}

function cells(text, separator) {
  const { rows, complete } = readCsv(text, separator, MOST_ROWS + 1);
  const [first = [], ...rest] = rows;
  const width = Math.min(MOST_CELLS, rows.reduce((most, row) => Math.max(most, row.length), 0));
  const cut = !complete || rows.some((row) => row.length > MOST_CELLS);
  const line = (row, tag) => h("tr", {}, Array.from({ length: width }, (_, index) => h(tag, tag === "th" ? { scope: "col" } : {}, row[index] ?? "")));
  return [
    h("div", { class: "table-wrap preview-table", tabindex: 0 }, h("table", { class: "table" }, h("thead", {}, line(first, "th")), h("tbody", {}, rest.map((row) => line(row, "td"))))),
    cut ? hint(t("preview.rows", { rows: rest.length, columns: width })) : null,
  ];
}

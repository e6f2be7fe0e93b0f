// Downloads over fetch, because a link could not send the key.

import { call } from "../api.js";
import { h } from "../dom.js";
import { tellError } from "./feedback.js";

const KEPT_MS = 60_000;

/** Download what a path of the API answers with, under a name. */
export async function download(path, name, query = {}) {
  try {
    save(await (await call(path, { query })).blob(), name);
  } catch (error) {
    tellError(error);
  }
}

/** Give the user a blob as a file. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}

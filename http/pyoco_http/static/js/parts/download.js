// Downloads over fetch, because a link could not send the key.

import { call } from "../api.js";
import { h } from "../dom.js";
import { tellError } from "./feedback.js";

const KEPT_MS = 60_000;

/** Download what a path of the API answers with, under a name. */
export async function download(path, name) {
  try {
    const blob = await (await call(path)).blob();
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
  } catch (error) {
    tellError(error);
  }
}

// What a filter can be: the flows and tags that runs have, and the workers.

import { get } from "../api.js";
import { h, replace } from "../dom.js";

const FRESH_MS = 30_000;

/** {element, list(name)}: the lists, and the id of the one for "flow", "tag" or "worker_id"; loaded by `load()`. */
export function suggestions(signal) {
  const lists = Object.fromEntries(["flow", "tag", "worker_id"].map((name) => [name, h("datalist", { id: `known-${name}` })]));
  let loaded = -Infinity;

  const fill = (name, values) => replace(lists[name], values.map((value) => h("option", { value })));

  async function load() {
    if (performance.now() - loaded < FRESH_MS) return;
    loaded = performance.now();
    try {
      const [counts, workers] = await Promise.all([get("/runs/counts", {}, signal), get("/workers", { scope: "all", limit: 500 }, signal)]);
      fill("flow", Object.keys(counts.flows ?? {}));
      fill("tag", Object.keys(counts.tags ?? {}));
      fill("worker_id", workers.map((worker) => worker.worker_id).sort());
    } catch {
      loaded = -Infinity; // without them one types
    }
  }

  return { element: Object.values(lists), list: (name) => (name in lists ? `known-${name}` : null), load };
}

// The runs on the screen: a first page, further pages by cursor, and what changes meanwhile.

import { get } from "./api.js";

const PAGE = 100;

export class RunsList {
  /** `filters`: the query of GET /runs; `changed`: called after every change. */
  constructor(filters, changed, signal) {
    this.filters = filters;
    this.changed = changed;
    this.signal = signal;
    this.items = [];
    this.held = new Map(); // newer ones that wait while the reader is further down
    this.cursor = "";
    this.loading = false;
    this.error = null;
    this.byId = new Map();
  }

  get complete() {
    return this.cursor === null;
  }

  /** Load the next page; does nothing while one is under way or at the end. */
  async more() {
    if (this.loading || this.complete) return;
    this.loading = true;
    try {
      // An empty cursor asks for the paged form of the answer.
      const page = await get("/runs", { ...this.filters, limit: PAGE, cursor: this.cursor, updated_after: this.cursor ? null : 0 }, this.signal);
      for (const item of page.items) this.#put(item);
      this.cursor = page.next_cursor ?? null;
      this.error = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
    } finally {
      this.loading = false;
    }
    this.#sort();
    this.changed();
  }

  /** Start over, keeping what is on the screen until the first page is there. */
  async reload() {
    this.cursor = "";
    this.byId.clear();
    this.held.clear();
    const before = this.items;
    this.items = [];
    await this.more();
    if (this.error) this.items = before;
  }

  /** A run changed. `hold`: the reader is further down, so nothing may move. */
  put(item, hold) {
    if (this.byId.has(item.run_id)) {
      const known = this.byId.get(item.run_id);
      if ((item.updated_at ?? 0) < (known.updated_at ?? 0)) return;
      if (hold) Object.assign(known, item, { updated_at: known.updated_at });
      else this.#put(item);
    } else if (hold) {
      this.held.set(item.run_id, item);
    } else {
      this.#put(item);
    }
    if (!hold) this.#sort();
    this.changed();
  }

  /** A run left the list: deleted, expired, or not what the filters want any more. */
  drop(runId) {
    this.held.delete(runId);
    if (!this.byId.delete(runId)) return;
    this.items = this.items.filter((item) => item.run_id !== runId);
    this.changed();
  }

  /** Let in what waited. */
  release() {
    for (const item of this.held.values()) this.#put(item);
    this.held.clear();
    this.#sort();
    this.changed();
  }

  #put(item) {
    const known = this.byId.get(item.run_id);
    if (known) Object.assign(known, item);
    else {
      this.byId.set(item.run_id, item);
      this.items.push(item);
    }
  }

  #sort() {
    this.items.sort((one, two) => (two.updated_at ?? 0) - (one.updated_at ?? 0) || (one.run_id < two.run_id ? 1 : -1));
  }
}

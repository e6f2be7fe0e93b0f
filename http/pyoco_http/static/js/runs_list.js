// The runs on the screen: a first page, further pages by cursor, and what changes meanwhile.

import { get } from "./api.js";
import { pause } from "./page.js";

const PAGE = 200;
const PAUSE_MS = 2000;
const FETCHING_MS = 50;

export class RunsList {
  #rows = null; // the sorted runs; null when they have to be sorted again
  #byId = new Map();
  #held = new Map(); // newer ones that wait while the reader is further down
  #missed = null; // what came while the list was being loaded anew
  #fetching = null;
  #cursor = "";
  #notBefore = 0; // when a page may be asked for after one that could not be had

  /** `filters`: the query of GET /runs; `changed`: called after every change. */
  constructor(filters, changed, signal) {
    this.filters = filters;
    this.changed = changed;
    this.error = null;
    signal.addEventListener("abort", () => this.#fetching?.abort());
    this.signal = signal;
  }

  /** The runs, the newest change first. */
  get items() {
    this.#rows ??= [...this.#byId.values()].sort(
      (one, two) => two.place - one.place || (one.run_id < two.run_id ? 1 : -1),
    );
    return this.#rows;
  }

  get complete() {
    return this.#cursor === null;
  }

  /** How many wait to be let in. */
  get waiting() {
    return this.#held.size;
  }

  run(runId) {
    return this.#byId.get(runId);
  }

  /** Load the next page; does nothing while one is under way or at the end. */
  async more() {
    if (this.#fetching || this.complete || this.signal.aborted || Date.now() < this.#notBefore) return;
    const page = await this.#load(this.#cursor);
    if (page === null) return;
    this.#take(page);
    this.#rows = null;
    this.changed();
  }

  /** Load further pages to the end, or until there are `most` runs, or one cannot be had. */
  async rest(most) {
    while (!this.complete && this.#byId.size < most && this.error === null && !this.signal.aborted) {
      await (this.#fetching ? pause(FETCHING_MS, this.signal) : this.more());
    }
  }

  /** Start over; what is on the screen stays until the first page is there. */
  async reload() {
    if (this.signal.aborted) return;
    this.#fetching?.abort();
    this.#missed = [];
    const page = await this.#load("");
    if (page === null) return;
    const missed = this.#missed;
    this.#missed = null;
    this.#byId.clear();
    this.#held.clear();
    this.#take(page);
    for (const again of missed) again();
    this.#rows = null;
    this.changed();
  }

  // A page; null when it could not be had or is not wanted any more.
  async #load(cursor) {
    const fetching = new AbortController();
    this.#fetching = fetching;
    try {
      // With "updated_after" the first page brings a cursor, which is good for the same query only.
      const query = { updated_after: 0, ...this.filters, limit: PAGE, cursor };
      const page = await get("/runs", query, fetching.signal);
      this.error = null;
      return this.#fetching === fetching ? page : null;
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.error = error;
      this.#notBefore = Date.now() + PAUSE_MS;
      this.changed();
      return null;
    } finally {
      if (this.#fetching === fetching) this.#fetching = null;
    }
  }

  #take(page) {
    for (const item of page.items) this.#put(item, false);
    this.#cursor = page.next_cursor ?? null;
  }

  /** A run changed. `hold`: the reader is further down, so nothing may move. */
  put(item, hold) {
    this.#missed?.push(() => this.#put(item, hold));
    this.#put(item, hold);
    this.changed();
  }

  /** A run left the list: deleted, expired, or not what the filters want any more. */
  drop(runId) {
    this.#missed?.push(() => this.#drop(runId));
    this.#drop(runId);
    this.changed();
  }

  /** Let in what waited. */
  release() {
    for (const item of this.#held.values()) this.#put(item, false);
    this.#held.clear();
    for (const item of this.#byId.values()) item.place = item.updated_at ?? 0;
    this.#rows = null;
    this.changed();
  }

  #drop(runId) {
    this.#held.delete(runId);
    if (this.#byId.delete(runId)) this.#rows = null;
  }

  #put(item, hold) {
    const known = this.#byId.get(item.run_id);
    if (known && (item.updated_at ?? 0) < (known.updated_at ?? 0)) return;
    if (!known && hold) {
      this.#held.set(item.run_id, item);
      return;
    }
    this.#byId.set(item.run_id, { ...item, place: known && hold ? known.place : item.updated_at ?? 0 });
    this.#rows = null;
  }
}

// The runs on the screen: a first page, further pages by cursor, and what changes meanwhile.

import { get } from "./api.js";
import { pause, whole } from "./page.js";

const PAGE = 200;
const PAUSE_MS = 2000;
const FETCHING_MS = 50;
const MOST_CAME = 2000; // runs that came by themselves: behind more of them, the list is begun anew

export class RunsList {
  #rows = null; // the sorted runs; null when they have to be sorted again
  #byId = new Map();
  #held = new Map(); // newer ones that wait while the reader is further down
  #more = false; // whether there are more of those than are kept
  #paged = 0; // how many came by pages
  #missed = null; // what the stream told while a page was under way
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

  /** How many wait to be let in: 0, 3, "2000+". */
  get waiting() {
    return this.#more ? `${this.#held.size}+` : this.#held.size;
  }

  /** Whether so many came by themselves that the list is to be begun anew. */
  get overgrown() {
    return !this.#busy && this.#byId.size > this.#paged + MOST_CAME;
  }

  get #busy() {
    return this.#fetching !== null || Date.now() < this.#notBefore;
  }

  run(runId) {
    return this.#byId.get(runId);
  }

  /** Load the next page; does nothing while one is under way or at the end. */
  async more() {
    if (this.#busy || this.complete || this.signal.aborted) return;
    await this.#load(async (signal) => this.#take(await this.#page(this.#cursor, signal)));
  }

  /** Load further pages to the end, or until there are `most` runs, or one cannot be had. */
  async rest(most) {
    while (!this.complete && this.#byId.size < most && this.error === null && !this.signal.aborted) {
      await (this.#fetching ? pause(FETCHING_MS, this.signal) : this.more());
    }
  }

  /** Start over, until it is done or refused; what is on the screen stays until the first page is there. */
  async reload() {
    if (this.signal.aborted) return;
    this.#fetching?.abort();
    const begin = (page) => {
      this.#byId.clear();
      this.#held.clear();
      this.#more = false;
      this.#paged = 0;
      this.#take(page);
    };
    await this.#load((signal) => whole(() => this.#page("", signal), begin, signal, (error) => this.#failed(error)));
  }

  // `run(signal)` asks for pages and takes them, until they are not wanted any more.
  async #load(run) {
    const fetching = new AbortController();
    this.#fetching = fetching;
    try {
      await run(fetching.signal);
    } catch (error) {
      if (!fetching.signal.aborted) this.#failed(error);
    }
    if (this.#fetching !== fetching) return;
    this.#fetching = null;
    this.#missed = null;
  }

  #page(cursor, signal) {
    this.#missed = [];
    // With "updated_after" the first page brings a cursor, which is good for the same query only.
    return get("/runs", { updated_after: 0, ...this.filters, limit: PAGE, cursor }, signal);
  }

  #failed(error) {
    this.error = error;
    this.#notBefore = Date.now() + PAUSE_MS;
    this.changed();
  }

  // What the stream told is newer than any page that was asked for before it: it tells of changes in their order.
  // updated_at does not say which is newer, since the clocks of those who write it differ.
  #take(page) {
    this.error = null;
    this.#notBefore = 0;
    for (const item of page.items) {
      if (!this.#byId.has(item.run_id) && !this.#held.has(item.run_id)) this.#put(item, false);
    }
    this.#paged += page.items.length;
    this.#cursor = page.next_cursor ?? null;
    for (const again of this.#missed) again();
    this.#rows = null;
    this.changed();
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
    if (this.#more) this.reload();
    this.#more = false;
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
    if (!known && hold) {
      if (this.#held.size < MOST_CAME || this.#held.has(item.run_id)) this.#held.set(item.run_id, item);
      else this.#more = true;
      return;
    }
    this.#held.delete(item.run_id);
    this.#byId.set(item.run_id, { ...item, place: known && hold ? known.place : item.updated_at ?? 0 });
    this.#rows = null;
  }
}

// Whether somebody looks at the page, and waits that end with a view.

import { stale } from "./api.js";

const AGAIN_MS = 2000;
// What an answer says of a gateway, or of NATS behind it, that is away; 0 is none at all.
const AWAY = new Set([0, 429, 502, 503, 504]);

/** A part of the page that is not always shown: asked as the document is, and hidden with it; `signal`: that of its view. */
export class Part extends EventTarget {
  #shown = true;

  constructor(signal) {
    super();
    document.addEventListener("visibilitychange", () => this.show(this.#shown), { signal });
  }

  get hidden() {
    return document.hidden || !this.#shown;
  }

  show(shown) {
    this.#shown = shown;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

/** Wait until the page, or a part of it, is shown, or the signal is aborted. */
export function shown(signal, part = document) {
  if (!part.hidden || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (part.hidden && !signal.aborted) return;
      part.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    part.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** Call `then` when the page has been hidden for so long, or a part of one that is shown is hidden; {hidden, stop()}. */
export function whenHidden(milliseconds, then, part = document) {
  const watched = { hidden: false, stop };
  let timer;
  function look() {
    clearTimeout(timer);
    if (!part.hidden) return;
    timer = setTimeout(() => {
      watched.hidden = true;
      then();
    }, document.hidden ? milliseconds : 0);
  }
  function stop() {
    clearTimeout(timer);
    part.removeEventListener("visibilitychange", look);
  }
  part.addEventListener("visibilitychange", look);
  look();
  return watched;
}

/** What `load` gives; tried again while the gateway is away or cannot answer, as `failed(error)` is told. Raises what it refuses. */
export async function patiently(load, signal, failed = () => {}) {
  for (;;) {
    try {
      return await load();
    } catch (error) {
      if (!AWAY.has(error.status) || signal.aborted) throw error;
      failed(error);
    }
    await again(signal);
  }
}

/** Patiently give `take` what `load` gives, again and again until nothing is missing that was told before. */
export async function whole(load, take, signal, failed) {
  for (;;) {
    const answer = await patiently(load, signal, failed);
    signal.throwIfAborted();
    take(answer);
    if (!stale(answer)) return;
    await again(signal);
  }
}

// Nobody waits for it while the page is hidden.
async function again(signal) {
  await pause(AGAIN_MS, signal);
  await shown(signal);
}

/** Wait for a time, or until the network is back or the signal is aborted. */
export function pause(milliseconds, signal) {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}

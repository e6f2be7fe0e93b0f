// Whether somebody looks at the page, and waits that end with a view.

import { stale } from "./api.js";

const AGAIN_MS = 2000;
// What an answer says of a gateway, or of NATS behind it, that is away; 0 is none at all.
const AWAY = new Set([0, 429, 502, 503, 504]);

/** Wait until the page is shown, or the signal is aborted. */
export function shown(signal) {
  if (!document.hidden || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** Call `then` when the page has been hidden for so long; {hidden, stop()}. */
export function whenHidden(milliseconds, then) {
  const watched = { hidden: false, stop };
  let timer;
  function look() {
    clearTimeout(timer);
    if (!document.hidden) return;
    timer = setTimeout(() => {
      watched.hidden = true;
      then();
    }, milliseconds);
  }
  function stop() {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  }
  document.addEventListener("visibilitychange", look);
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

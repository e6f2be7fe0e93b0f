// Looks at something again and again while its view is shown, never twice at the same time.

import { pause, shown } from "../page.js";

/** Run `look` now, every `milliseconds` after it ended while the page is looked at, and when the returned function is called. */
export function every(milliseconds, signal, look) {
  let hurry = new AbortController();

  async function run() {
    while (!signal.aborted) {
      hurry = new AbortController();
      await look();
      await pause(milliseconds, AbortSignal.any([signal, hurry.signal]));
      await shown(signal);
    }
  }

  run();
  return () => hurry.abort();
}

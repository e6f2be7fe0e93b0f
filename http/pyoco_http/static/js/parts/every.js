// Looks at something again and again while its view is shown, never twice at the same time.

/** Run `look` now, every `milliseconds` after it ended, and when the returned function is called. */
export function every(milliseconds, signal, look) {
  let timer = null;
  let running = false;
  let again = false;

  async function run() {
    if (signal.aborted) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    clearTimeout(timer);
    await look();
    running = false;
    if (signal.aborted) return;
    timer = setTimeout(run, again ? 0 : milliseconds);
    again = false;
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  run();
  return run;
}

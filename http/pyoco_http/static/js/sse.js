// Server-sent events over fetch, because EventSource cannot send the key. Comes back by itself.

import { call } from "./api.js";
import { parse as read } from "./exact.js";
import { pause, shown, whenHidden } from "./page.js";

const SILENCE_MS = 15_000;
const HIDDEN_MS = 10_000;
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5000;
const SOUND_MS = 5000; // a stream that lasted this long was a good one

/**
 * Follow a stream until `signal` is aborted. While nobody looks at the page it is let go of: a browser has only
 * six connections to a server for all its tabs. `part` of the page: while nobody looks at that.
 *
 * `query`: an object, or a function of the last event's id. `until(name, data)` tells from an event that nothing
 * will follow. on.event(name, data); on.state("live" | "lost", reason); on.end() behind the event of `until`;
 * on.fail(error) for a refusal that another try would not mend.
 */
export async function follow(path, { query, on, signal, until = () => false, part = document }) {
  let lastId = null;
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    await shown(signal, part);
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    const watched = whenHidden(HIDDEN_MS, stop, part);
    signal.addEventListener("abort", stop, { once: true });
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MS);
    };
    let since = Infinity;
    let reason = "";
    try {
      heard();
      const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
      const wanted = typeof query === "function" ? query(lastId) : query;
      const response = await call(path, { query: wanted, headers, signal: attempt.signal });
      since = Date.now();
      on.state?.("live");
      for await (const message of messages(response.body, heard)) {
        if (message.id !== undefined) lastId = message.id;
        if (message.data === undefined) continue;
        const data = read(message.data);
        on.event(message.event, data);
        if (until(message.event, data)) {
          on.end?.();
          return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      // What a browser says of a stream that broke off helps nobody.
      reason = error.status === undefined ? "" : error.message;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) {
        on.fail?.(error);
        return;
      }
      since = Infinity;
    } finally {
      clearTimeout(silence);
      watched.stop();
      signal.removeEventListener("abort", stop);
      attempt.abort();
    }
    if (signal.aborted) return;
    const sound = Date.now() - since > SOUND_MS;
    // A stream that ended in order, as each does some time, is no trouble yet.
    if (!sound && !watched.hidden) on.state?.("lost", reason);
    if (sound || watched.hidden) delay = FIRST_DELAY_MS;
    await pause(delay * (0.5 + Math.random() / 2), signal);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

async function* messages(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield parse(block);
  }
}

function parse(block) {
  const message = { event: "message", data: undefined, id: undefined };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 1) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") message.data = message.data === undefined ? value : `${message.data}\n${value}`;
    else if (name === "event") message.event = value;
    else if (name === "id") message.id = value;
  }
  return message;
}

// Server-sent events over fetch, because EventSource cannot send the key. Comes back by itself.

import { call } from "./api.js";

const SILENCE_MS = 15000;
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5000;

/**
 * Follow a stream until `signal` is aborted.
 * on.event(name, data, id); on.state("live" | "lost"); on.end() when the server says that nothing will follow
 * (`until` tells by a look at an event); on.fail(error) for a refusal that another try would not mend.
 */
export async function follow(path, { query, on, signal, until = () => false }) {
  let lastId = null;
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop, { once: true });
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MS);
    };
    try {
      heard();
      const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
      const response = await call(path, { query, headers, signal: attempt.signal });
      on.state?.("live");
      delay = FIRST_DELAY_MS;
      for await (const message of messages(response.body, heard)) {
        if (message.id !== undefined) lastId = message.id;
        if (message.data === undefined) continue;
        const data = JSON.parse(message.data);
        on.event(message.event, data, message.id);
        if (until(message.event, data)) {
          on.end?.();
          return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) {
        on.fail?.(error);
        return;
      }
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
      attempt.abort();
    }
    if (signal.aborted) return;
    on.state?.("lost");
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

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

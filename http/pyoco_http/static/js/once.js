// What makes a run is sent with a key, the same one until an answer says what became of it: tried again, it makes no second run.

import { send } from "./api.js";
import { write } from "./exact.js";

const KEPT_MS = 600_000; // by then it is asked for anew
const wishes = new Map(); // {key, at}, by what is wished for

/** What `ask(key)` gives; `wish`: JSON that tells what is asked for. */
export async function once(wish, ask) {
  const name = write(wish);
  const known = wishes.get(name);
  const key = known && Date.now() - known.at < KEPT_MS ? known.key : token();
  wishes.set(name, { key, at: Date.now() });
  try {
    const answer = await ask(key);
    wishes.delete(name);
    return answer;
  } catch (error) {
    if (error.status >= 400 && error.status < 500 && error.status !== 429) wishes.delete(name);
    throw error;
  }
}

/** POST without a body. */
export const postOnce = (path) => once(path, (key) => send("POST", path, undefined, { headers: { "Idempotency-Key": key } }));

/** A text that nobody else has; crypto.randomUUID is there with HTTPS only. */
export const token = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

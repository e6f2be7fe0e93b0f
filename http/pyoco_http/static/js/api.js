// Calls of the HTTP API: JSON in and out, problems as errors, the key asked for when it is wanted.

import { parse, write } from "./exact.js";
import { t } from "./i18n.js";
import { keyDialog } from "./parts/key.js";
import { noteSeen, seenHeaders } from "./seen.js";
import { askKey, hasKey, keyHeaders } from "./session.js";

const ANSWER_MS = 30_000; // until a question is answered
/** Until something is done, or much is read. */
export const LONG_MS = 120_000;

/** Where the gateway is below its host: "" or, behind a proxy, such as "/pyoco". */
export const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

/** A call that did not succeed; `status` is 0 where no answer came, `problem` is the gateway's answer. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(words(status, problem ?? {}));
    this.status = status;
    this.problem = problem ?? {};
  }
}

function words(status, problem) {
  if (status === 0) return t("api.unreachable");
  if (status === 403 && problem.role && !problem.reason) return t("api.role", { role: problem.role });
  if (!problem.detail) return `HTTP ${status}`;
  return problem.reason && problem.reason !== problem.detail ? `${problem.detail}: ${problem.reason}` : problem.detail;
}

/**
 * Make a call and return the response; asks for a key and tries again where one is needed. `within`: how long each try may take until
 * all of its answer is read, in ms; what follows or downloads something has no such limit.
 */
export async function call(path, { method = "GET", query, json, body, headers, signal, within } = {}) {
  for (;;) {
    const used = keyHeaders();
    const response = await reached(signal, () => fetch(url(path, query), {
      method,
      signal: within === undefined ? signal : inTime(signal, within),
      cache: "no-store",
      body: json === undefined ? body : write(json),
      headers: { ...used, ...seenHeaders(), ...(json === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    }));
    noteSeen((name) => response.headers.get(name));
    if (response.ok) return response;
    const problem = await response.json().catch(() => null);
    if (!keyRefused(response.status, problem)) throw new ApiError(response.status, problem);
    await betterKey(used);
    signal?.throwIfAborted();
  }
}

const keyRefused = (status, problem) => status === 401 || (status === 403 && problem?.err_id === "ERR-PYOCO-0015");

// Another call may have asked for a key meanwhile.
async function betterKey(used) {
  if (JSON.stringify(used) === JSON.stringify(keyHeaders())) await askKey(() => keyDialog(hasKey()));
}

/** `signal`, if there is one, which is aborted when so many ms have passed as well. */
export const inTime = (signal, within = ANSWER_MS) => AbortSignal.any([AbortSignal.timeout(within), ...(signal ? [signal] : [])]);

// What comes over the network. Whatever broke it off, but for the caller, there was no answer.
async function reached(signal, read) {
  try {
    return await read();
  } catch (error) {
    throw signal?.aborted ? error : new ApiError(0, null);
  }
}

/** Make a call whose answer is a text that comes in time. */
export async function textOf(path, { within = ANSWER_MS, ...options } = {}) {
  const response = await call(path, { ...options, within });
  return reached(options.signal, () => response.text());
}

const behind = new WeakSet();
/** Whether an answer of `get` may lack what was told before: its gateway is behind. */
export const stale = (answer) => behind.has(answer);

/** GET JSON. */
export async function get(path, query, signal, within = ANSWER_MS) {
  const response = await call(path, { query, signal, within });
  const answer = parse(await reached(signal, () => response.text()));
  if (response.headers.has("X-Pyoco-Stale")) behind.add(answer);
  return answer;
}

/** POST, PUT, PATCH or DELETE; returns JSON, or null where there is none. */
export async function send(method, path, json, options = {}) {
  const text = await textOf(path, { method, json, within: LONG_MS, ...options });
  return text ? parse(text) : null;
}

/** A path with its parts escaped: path`/runs/${id}/tasks`. */
export function path(strings, ...values) {
  return strings.reduce((text, part, index) => text + encodeURIComponent(values[index - 1]) + part);
}

/** The URL of a call, or of a file; values may be lists. */
export function url(path, query = {}) {
  const base = ROOT + path;
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of [value].flat()) {
      if (each !== "" && each !== null && each !== undefined) search.append(name, each);
    }
  }
  const text = search.toString();
  return text ? `${base}?${text}` : base;
}

/** Upload a form with progress in 0…1; resolves to JSON. fetch tells nothing of an upload's progress. */
export async function upload(base, form, onProgress) {
  for (;;) {
    const used = keyHeaders();
    const { status, answer } = await post(url(base), form, used, onProgress);
    if (status >= 200 && status < 300) return answer;
    if (!keyRefused(status, answer)) throw new ApiError(status, answer);
    await betterKey(used);
  }
}

function post(base, form, headers, onProgress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", base);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("loadend", () => {
      noteSeen((name) => request.getResponseHeader(name));
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // No JSON: the status says it all.
      }
      resolve({ status: request.status, answer });
    });
    request.send(form);
  });
}

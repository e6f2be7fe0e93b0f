// Calls of the HTTP API: JSON in and out, problems as errors, the key asked for when it is wanted.

import { askKey, hasKey, keyHeaders } from "./session.js";
import { keyDialog } from "./parts/key.js";

/** A call that did not succeed; `problem` is the gateway's answer. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem?.reason && problem.reason !== problem.detail
      ? `${problem.detail}: ${problem.reason}`
      : (problem?.detail ?? `HTTP ${status}`));
    this.status = status;
    this.problem = problem ?? {};
  }
}

/** Make a call and return the response; asks for a key and tries again where one is needed. */
export async function call(path, { method = "GET", query, json, body, headers, signal } = {}) {
  for (;;) {
    const used = keyHeaders();
    let response;
    try {
      response = await fetch(url(path, query), {
        method,
        signal,
        cache: "no-store",
        body: json === undefined ? body : JSON.stringify(json),
        headers: { ...used, ...(json === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { detail: String(error.message || error) });
    }
    if (response.ok) return response;
    const problem = await response.json().catch(() => null);
    const refused = response.status === 401 || (response.status === 403 && problem?.err_id === "ERR-PYOCO-0015");
    if (!refused) throw new ApiError(response.status, problem);
    // Another view may have got a key meanwhile.
    if (JSON.stringify(used) === JSON.stringify(keyHeaders())) await askKey(() => keyDialog(hasKey()));
  }
}

/** GET JSON. */
export async function get(path, query, signal) {
  return (await call(path, { query, signal })).json();
}

/** POST, PATCH or DELETE; returns JSON, or null where there is none. */
export async function send(method, path, json, options = {}) {
  const response = await call(path, { method, json, ...options });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** A path with its parts escaped: path`/runs/${id}/tasks`. */
export function path(strings, ...values) {
  return strings.reduce((text, part, index) => text + encodeURIComponent(values[index - 1]) + part);
}

/** The URL of a call; values may be lists. */
export function url(base, query = {}) {
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
export function upload(base, form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", base);
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        answer = null;
      }
      if (request.status >= 200 && request.status < 300) resolve(answer);
      else reject(new ApiError(request.status, answer));
    });
    request.addEventListener("error", () => reject(new ApiError(0, { detail: "the connection was lost" })));
    request.send(form);
  });
}

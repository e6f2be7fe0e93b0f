// The API key: asked for when the gateway wants one, kept until the tab is closed, never longer.

/** The event of the window that says that a key was given. */
export const KEY_GIVEN = "pyoco.key-given";

const STORED = "pyoco.key";
const header = document.documentElement.dataset.header || "X-API-Key";
let asked = null;

/** The headers that carry the key; none without one. */
export function keyHeaders() {
  const key = sessionStorage.getItem(STORED);
  return key ? { [header]: key } : {};
}

/** Whether a key is kept. */
export const hasKey = () => sessionStorage.getItem(STORED) !== null;

/** Keep a key. */
export function keepKey(key) {
  sessionStorage.setItem(STORED, key);
}

/** Forget the key. */
export function forgetKey() {
  sessionStorage.removeItem(STORED);
}

/** Ask the user for a key, once however many calls need it; `dialog` shows the question. */
export function askKey(dialog) {
  asked ??= dialog().finally(() => {
    asked = null;
  });
  return asked;
}

// What was typed on the page that submits flows, kept in the tab until it was submitted.

const KEPT = "pyoco.draft";

/** {text, file, name, tag, params: {name: text}}; an empty object for nothing. */
export function draft() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

/** Keep a draft. */
export function keepDraft(draft) {
  sessionStorage.setItem(KEPT, JSON.stringify(draft));
}

/** Forget it. */
export function forgetDraft() {
  sessionStorage.removeItem(KEPT);
}

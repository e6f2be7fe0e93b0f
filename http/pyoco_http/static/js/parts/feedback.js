// What tells the user that something happened, or asks before it does.

import { h } from "../dom.js";
import { t } from "../i18n.js";

const SHOWN_MS = 6000;

function place() {
  let toasts = document.querySelector(".toasts");
  if (toasts === null) {
    toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(toasts);
  }
  return toasts;
}

/** Say something for some seconds. */
export function tell(text, { bad = false } = {}) {
  const toast = h("div", { class: bad ? "toast bad" : "toast" }, text);
  place().append(toast);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

/** Say that a call failed. */
export function tellError(error) {
  if (error.name !== "AbortError") tell(error.message, { bad: true });
}

/** Ask before something is done; resolves to whether it shall be. */
export function confirm({ title, text, action, danger = false }) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title" },
      h("div", { class: "dialog-body" }, h("h2", { id: "confirm-title" }, title), h("div", {}, text)),
      h(
        "form",
        { method: "dialog", class: "dialog-foot" },
        h("button", { value: "no" }, t("do.back")),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, action),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Copy a text and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell(t("do.copied"));
  } catch {
    // No clipboard without HTTPS on another host: show it, to be copied by hand.
    await confirm({ title: t("do.copy"), text: h("pre", { class: "code" }, text), action: t("do.done") });
  }
}

/** What a view shows when it has nothing to show: what it is, and what to do next. */
export function empty(title, text, command) {
  return h("div", { class: "empty" }, h("strong", {}, title), text, command ? h("div", {}, h("code", {}, command)) : null);
}

// What tells the user that something happened, or asks before it does.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";

const SHOWN_MS = 6000;

function place() {
  let toasts = document.querySelector(".toasts");
  if (toasts === null) {
    toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite", popover: "manual" });
    document.body.append(toasts);
  }
  return toasts;
}

/** Say something for some seconds. */
export function tell(text, { bad = false } = {}) {
  const toasts = place();
  // The same again, as of one gateway that is away for many calls, is no news.
  for (const known of toasts.children) if (known.textContent === text) known.remove();
  const toast = h("div", { class: bad ? "toast bad" : "toast" }, text);
  toasts.append(toast);
  // Shown anew, it is above a dialog that was opened meanwhile.
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover();
  setTimeout(() => {
    toast.remove();
    if (toasts.isConnected && toasts.childElementCount === 0) toasts.hidePopover();
  }, SHOWN_MS);
}

/** Say that a call failed. */
export function tellError(error) {
  if (error.name !== "AbortError") tell(error.message, { bad: true });
}

/**
 * Show a dialog; resolves to the value of the button that closed it, "" for none. Enter in a field is the first button that is not
 * `aside`; one that is looks at no field.
 */
export function dialog({ title, body, buttons }) {
  return new Promise((resolve) => {
    const element = h(
      "dialog",
      { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" },
        h("div", { class: "dialog-body" }, h("h2", { id: "dialog-title" }, title), h("div", {}, body)),
        h("div", { class: "dialog-foot" }, buttons.map(({ label, value = "", class: look = null, focus = false, aside = false }) =>
          h("button", { value, class: look, autofocus: focus, ...(aside ? { type: "button", onclick: () => element.close(value) } : {}) }, label)))),
    );
    element.addEventListener("close", () => {
      element.remove();
      resolve(element.returnValue);
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Ask before something is done; resolves to whether it shall be. Enter in a field of `text` is no yes. */
export async function confirm({ title, text, action, danger = false }) {
  const answer = await dialog({
    title,
    body: text,
    buttons: [{ label: t("do.back"), value: "no", focus: true }, { label: action, value: "yes", class: danger ? "danger" : "primary" }],
  });
  return answer === "yes";
}

/** Copy a text and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell(t("do.copied"));
  } catch {
    // No clipboard without HTTPS on another host: it can still be marked and copied by hand.
    tell(t("do.copy.by_hand"), { bad: true });
  }
}

/** What a view shows when it has nothing to show: what it is, and what to do next. */
export function empty(title, text, command) {
  return h("div", { class: "empty" }, h("strong", {}, title), text, command ? h("div", {}, h("code", {}, command)) : null);
}

/** A view's look failed: a refusal stands at its place, all else is told above the view, and what was there stays. */
export function showFailure(element, error, setLive) {
  const refused = error.status >= 400 && error.status < 500;
  setLive(refused ? "" : "lost", error.message);
  if (refused) showProblem(element, error);
}

/** Say in the place of a whole view that what it would show is not there, in the words for a 404; `back`: where to go then. */
export function showMissing(main, error, words, back) {
  replace(main, h("div", { class: "problem", role: "alert" }, h("h1", {}, error.status === 404 ? words : error.message)), h("p", {}, back));
}

/** Put a failure at the place of what could not be had. */
export function showProblem(element, error) {
  replace(element, h("div", { class: "card-body" }, h("div", { class: "problem", role: "alert" }, error.message)));
}

// Asks for the API key.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { KEY_GIVEN, keepKey } from "../session.js";

/** Show the question; resolves when a key was given. `wrong`: the one given before was refused. */
export function keyDialog(wrong) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", name: "key", autocomplete: "off", required: true, pattern: "[!-~]+", id: "api-key" });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "key-title" },
      h(
        "form",
        {
          method: "dialog",
          onsubmit: () => keepKey(input.value.trim()),
        },
        h(
          "div",
          { class: "dialog-body" },
          h("h2", { id: "key-title" }, t("key.title")),
          h("p", { class: wrong ? "error-text" : "muted" }, wrong ? t("key.wrong") : t("key.why")),
          h("label", { class: "field", for: "api-key" }, t("key.label"), input),
        ),
        h("div", { class: "dialog-foot" }, h("button", { class: "primary" }, t("key.use"))),
      ),
    );
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
      dispatchEvent(new Event(KEY_GIVEN));
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

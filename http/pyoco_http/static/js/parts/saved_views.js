// Views of the list that the user gave a name: the filters as they stand in the URL, kept in this browser.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { confirm, dialog, tell } from "./feedback.js";

const KEPT = "pyoco.views";
const MOST = 50;

/** `filters()`: those on the screen; `open(filters)`: shows others. Returns {element, show()}. */
export function savedViews({ filters, open }) {
  const choice = h("select", { id: "saved-view", onchange: () => { const view = views().find(({ name }) => name === choice.value); if (view) open(view.filters); } });
  const drop = h("button", { type: "button", class: "quiet small", onclick: forget }, t("views.delete"));
  const label = h("label", { class: "field", for: "saved-view" }, t("views.label"), choice);
  const element = [label, h("button", { type: "button", class: "quiet small", onclick: save }, t("views.save")), drop];

  // Mark the one that is on the screen.
  function show() {
    const known = views();
    const now = written(filters());
    const at = known.find((view) => written(view.filters) === now);
    replace(choice, h("option", { value: "" }, "–"), known.map(({ name }) => h("option", { value: name }, name)));
    choice.value = at?.name ?? "";
    label.hidden = known.length === 0;
    drop.hidden = at === undefined;
  }

  async function save() {
    const name = h("input", { type: "text", id: "view-name", maxlength: 60, value: choice.value });
    const answer = await dialog({
      title: t("views.save"),
      body: [h("p", { class: "muted" }, t("views.what")), h("label", { class: "field", for: "view-name" }, t("views.name"), name)],
      buttons: [{ label: t("do.back"), value: "no", aside: true }, { label: t("views.keep"), value: "yes", class: "primary" }],
    });
    const chosen = name.value.trim();
    if (answer !== "yes" || chosen === "") return;
    keep([...views().filter((view) => view.name !== chosen), { name: chosen, filters: { ...filters() } }].slice(-MOST));
    tell(t("views.saved", { name: chosen }));
    show();
  }

  async function forget() {
    const name = choice.value;
    if (!(await confirm({ title: t("views.delete.title", { name }), text: t("views.delete.sure"), action: t("views.delete"), danger: true }))) return;
    keep(views().filter((view) => view.name !== name));
    show();
  }

  return { element, show };
}

const written = (filters) => JSON.stringify(Object.entries(filters).sort());

function views() {
  try {
    const known = JSON.parse(localStorage.getItem(KEPT));
    return Array.isArray(known) ? known.filter((view) => typeof view?.name === "string" && view.filters !== null && typeof view.filters === "object") : [];
  } catch {
    return [];
  }
}

function keep(known) {
  known.sort((one, two) => one.name.localeCompare(two.name));
  localStorage.setItem(KEPT, JSON.stringify(known));
}

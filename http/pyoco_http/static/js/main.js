// The frame of the dashboard: navigation, the bar above, and one view at a time.

import { get, url } from "./api.js";
import { append, h, replace } from "./dom.js";
import { lang, setLang, t } from "./i18n.js";
import { icon } from "./parts/icons.js";
import { place } from "./router.js";
import { forgetKey, hasKey, KEY_GIVEN } from "./session.js";
import { startTheme, switchTheme, theme } from "./theme.js";
import { dlqView } from "./views/dlq.js";
import { runView } from "./views/run.js";
import { runsView } from "./views/runs.js";
import { scheduleView } from "./views/schedule.js";
import { schedulesView } from "./views/schedules.js";
import { submitView } from "./views/submit.js";
import { systemView } from "./views/system.js";
import { wheelsView } from "./views/wheels.js";
import { workersView } from "./views/workers.js";

const VIEWS = {
  runs: (path) => (path.length > 1 ? runView : runsView),
  submit: () => submitView,
  schedules: (path) => (path.length > 1 ? scheduleView : schedulesView),
  workers: () => workersView,
  wheels: () => wheelsView,
  dlq: () => dlqView,
  system: () => systemView,
};

let shown = null; // the AbortController of the view on the screen
let tenant = null; // that of the key that was used last

function draw() {
  const live = h("span", { class: "live", role: "status" }, h("span", { class: "live-dot" }), h("span", { class: "live-text" }));
  const main = h("main", { class: "view", id: "view", tabindex: "-1" });
  replace(
    document.body,
    h("a", { class: "skip", href: "#view", onclick: (event) => { event.preventDefault(); main.focus(); } }, t("nav.skip")),
    h("div", { class: "shell" }, navigation(), h("div", { class: "page" }, topbar(live), h("div", { class: "away", hidden: true }), main)),
  );
  show(main, live);
}

function navigation() {
  const current = place().path[0];
  const links = Object.keys(VIEWS).map((name) =>
    h(
      "a",
      { class: "nav-link", href: `#/${name}`, "aria-current": name === current ? "page" : null, dataset: { view: name } },
      icon(name),
      h("span", {}, t(`nav.${name}`)),
    ),
  );
  return h(
    "nav",
    { class: "nav", "aria-label": t("nav.label") },
    h("a", { class: "brand", href: "#/runs" }, h("img", { src: url("/static/icon.svg"), alt: "" }), "pyoco-server"),
    links,
    h("div", { class: "nav-foot" }, document.documentElement.dataset.version),
  );
}

function topbar(live) {
  const language = h(
    "select",
    { "aria-label": t("bar.language"), onchange: (event) => { setLang(event.target.value); draw(); } },
    h("option", { value: "en", lang: "en" }, "English"),
    h("option", { value: "ja", lang: "ja" }, "日本語"),
  );
  language.value = lang();
  const themeButton = h("button", { class: "quiet", type: "button", onclick: () => { switchTheme(); label(); } });
  const label = () => replace(themeButton, t(theme() === "dark" ? "bar.light" : "bar.dark"));
  label();
  const leave = h("button", { class: "quiet", type: "button", onclick: () => { forgetKey(); draw(); } }, t("bar.forget"));
  const bar = h("header", { class: "topbar" }, live, h("span", { class: "spacer" }));
  append(bar, [...(hasKey() ? [holder(), leave] : []), themeButton, language]);
  return bar;
}

/** Whose the key in use is, and what it may do. */
function holder() {
  const said = h("span", { class: "muted holder" });
  const say = ({ tenant_id, key_id, roles }) => {
    if (key_id === null) return; // a gateway that asks for none
    if (tenant !== null && tenant !== tenant_id) draw(); // what is shown is not for this one
    tenant = tenant_id;
    said.title = key_id;
    replace(said, t("bar.holder", { tenant: tenant_id, roles: roles.join(", ") || t("bar.reads") }));
  };
  get("/whoami").then(say, () => {}); // the view says what went wrong
  return said;
}

function show(main, live) {
  shown?.abort();
  shown = new AbortController();
  const { path, query } = place();
  const view = (VIEWS[path[0]] ?? VIEWS.runs)(path);
  const { signal } = shown;
  const setLive = (state, reason = "") => {
    if (signal.aborted || (live.dataset.state === state && live.title === reason)) return;
    live.dataset.state = state;
    live.title = reason;
    live.querySelector(".live-text").textContent = state === "" ? "" : t(`live.${state}`);
    // Whatever the view shows meanwhile, an old list or nothing, this says why.
    const away = document.querySelector(".away");
    away.hidden = state !== "lost";
    replace(away, h("strong", {}, reason || t("api.unreachable")), " ", t("live.stale"));
  };
  setLive("loading");
  for (const link of document.querySelectorAll(".nav-link")) {
    if (link.dataset.view === path[0]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  replace(main);
  document.title = `${t(`nav.${path[0] in VIEWS ? path[0] : "runs"}`)} · pyoco-server`;
  view(main, { path, query, signal, setLive });
}

startTheme();
draw();
// The view asks again by itself, and keeps what was typed into it.
addEventListener(KEY_GIVEN, () => document.querySelector(".topbar").replaceWith(topbar(document.querySelector(".live"))));
addEventListener("hashchange", () => {
  const main = document.getElementById("view");
  show(main, document.querySelector(".live"));
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});

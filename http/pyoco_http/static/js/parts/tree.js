// The supervision tree as a picture: who stands below whom, what each does, how full its mailbox is.

import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";

const TONES = { idle: "good", busy: "running", supervising: "good", starting: "running", stopping: "warn", backing_off: "bad", stopped: "bad" };

/** Draw a node of GET /actors and what is below it. */
export function tree(root) {
  return h("ul", { class: "tree", "aria-label": t("system.actors") }, node(root));
}

function node(actor) {
  return h("li", { dataset: { key: actor.path } },
    h("div", { class: `actor tone-edge-${TONES[actor.state] ?? "bad"}`, dataset: { path: actor.path, state: actor.state }, title: actor.path },
      h("strong", {}, actor.path === "/" ? "/" : actor.path.split("/").at(-1)),
      h("span", { class: `status tone-${TONES[actor.state] ?? "bad"}` }, word("actor", actor.state)),
      actor.strategy ? h("span", { class: "chip" }, actor.strategy) : null,
      actor.restarts ? h("span", { class: "status tone-warn" }, t("system.restarts", { count: actor.restarts })) : null,
      actor.mailbox_capacity ? mailbox(actor) : null,
      actor.messages ? h("span", { class: "muted" }, t("system.messages", { count: actor.messages, each: duration(actor.seconds_per_message) })) : null,
      actor.last_error ? h("span", { class: "error-text", dir: "auto" }, actor.last_error, actor.last_error_age_seconds === null ? null : ` (${t("time.ago", { duration: duration(actor.last_error_age_seconds) })})`) : null),
    actor.children?.length ? h("ul", {}, actor.children.map(node)) : null);
}

function mailbox({ mailbox_depth: depth, mailbox_capacity: capacity }) {
  const level = h("i");
  level.style.width = `${Math.min(100, (100 * depth) / capacity)}%`;
  const words = t("system.mailbox", { depth, capacity });
  return h("span", { class: "muted mailbox", title: words }, h("span", { class: "gauge", "aria-hidden": "true" }, level), words);
}

// What schedules are in words, and what is done with one.

import { path as apiPath } from "../api.js";
import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { postOnce } from "../once.js";
import { href } from "../router.js";
import { duration, when } from "../time.js";
import { submitted } from "./again.js";
import { tellError } from "./feedback.js";
import { pressed } from "./pressed.js";
import { badge, tone } from "./status.js";

/** The path of a schedule in the API. */
export const schedulePath = (id) => apiPath`/schedules/${id}`;

/** What people call it. */
export const titleOf = ({ name, schedule_id: id }) => name || id;

/** When its ticks are, as it was written. */
export function timing({ cron, every_sec: every, rrule, at, timezone }) {
  const rule = cron ? h("code", {}, cron) : every ? t("schedules.every", { duration: duration(every) }) : rrule ? h("code", {}, rrule) : t("schedules.at", { count: at?.length ?? 0 });
  return [rule, " ", h("span", { class: "muted" }, timezone)];
}

/** Whether ticks of it are to come. */
export const stateBadge = ({ state }) => h("span", { class: `status tone-${tone(state)}`, dataset: { state } }, word("schedules.state", state));

/** What became of a tick, with its run. */
export function outcome({ outcome: what, run_id: runId, reason, count, status, triggered }) {
  return [
    h("span", { class: `status tone-${tone(what)}` }, word("schedules.outcome", what)), " ",
    count > 1 ? `× ${count} ` : null, triggered ? [t("schedules.by_hand"), " "] : null,
    runId ? [h("a", { class: "mono", href: href(["runs", runId]), title: runId }, runId.slice(0, 8)), " "] : null,
    status ? [badge(status), " "] : null, reason ?? "",
  ];
}

/** A moment with what the clocks of the schedule's zone show. */
export const tickTime = ({ tick_at: tick, due_at: due, local }) => [when(due ?? tick), " ", h("span", { class: "muted" }, local)];

/** Buttons for a schedule; `done` is called when something was done. */
export function buttons(schedule, done) {
  const base = schedulePath(schedule.schedule_id);
  const act = async (what) => {
    try {
      const answer = await postOnce(`${base}/${what}`);
      if (what === "trigger") submitted(answer.run_id);
    } catch (error) {
      tellError(error);
    }
    done();
  };
  const button = (what) => h("button", { type: "button", class: "small", onclick: pressed(() => act(what)) }, t(`schedules.${what}`));
  return [button("trigger"), " ", button(schedule.paused ? "resume" : "pause")];
}

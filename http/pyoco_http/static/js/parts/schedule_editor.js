// A schedule as text: its fields as JSON, with a look at the next ticks before anything is saved.

import { send } from "../api.js";
import { h, replace } from "../dom.js";
import { parse, write } from "../exact.js";
import { t } from "../i18n.js";
import { latest } from "../latest.js";
import { lasting, typed } from "../typed.js";
import { pressed } from "./pressed.js";
import { tickTime } from "./schedules.js";

const FIELDS = [
  "name", "flow_name", "workflow_yaml_sha256", "tag", "tags", "params", "cron", "every_sec", "rrule", "at", "timezone", "jitter_sec", "start_at",
  "end_at", "overlap", "catch_up", "catch_up_limit", "timeout_sec", "max_attempts", "retry_backoff_sec", "memory_mb", "cpu_sec", "queue_ttl_sec",
  "expected_start_within_sec", "expected_end_within_sec", "labels",
];
const PREVIEWED = 5;

/**
 * `now()`: the schedule as it is, or a beginning; `save(fields, version)`: stores it, gives what is there then, and raises what
 * the gateway says against it. The version is that of what stands in the text: what others saved meanwhile is not undone unseen.
 */
export function scheduleEditor(now, save) {
  // `known`: what it reads like where nobody else has changed it.
  const base = lasting("schedule", () => ({ edited: now(), known: [written(now())] }));
  const text = typed(h("textarea", { id: "schedule-text", rows: 18, spellcheck: "false", value: written(base.edited) }));
  const said = h("div", { role: "status" });
  const asking = latest();

  async function tried(act) {
    const newest = asking();
    const say = (...words) => { if (newest()) replace(said, ...words); };
    try {
      await act(parse(text.value, true), say);
    } catch (error) {
      say(h("div", { class: "problem" }, error.message));
    }
  }

  async function keep(fields, say) {
    // A pause, for one, gives a new version of the same text; and what was sent may be there, though its answer was lost.
    if (base.known.includes(written(now()))) base.edited = now();
    base.known.push(written(fields));
    base.edited = await save(fields, base.edited.version);
    base.known = [written(base.edited)];
    say();
  }

  async function preview(fields, say) {
    const { ticks } = await send("POST", "/schedules/preview", { ...fields, schedule_id: base.edited.schedule_id ?? null, count: PREVIEWED });
    say(h("h3", {}, t("schedules.next")), ticks.length === 0 ? h("p", { class: "muted" }, t("schedules.never")) : h("ul", { class: "ticks" }, ticks.map((tick) => h("li", {}, tickTime(tick)))));
  }

  return h("div", { class: "card-body" },
    h("label", { class: "field", for: "schedule-text" }, t("schedules.text"), text),
    h("div", { class: "filters" },
      h("button", { type: "button", onclick: () => tried(preview) }, t("schedules.preview")),
      h("button", { type: "button", class: "primary", onclick: pressed(() => tried(keep)) }, t("schedules.save"))),
    said);
}

const written = (schedule) => write(Object.fromEntries(FIELDS.filter((name) => schedule[name] !== null && schedule[name] !== undefined).map((name) => [name, schedule[name]])), 2);

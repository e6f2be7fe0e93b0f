// What is due in the next hours: a lane for each schedule, a mark for each tick.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { href } from "../router.js";
import { moment } from "../time.js";
import { titleOf } from "./schedules.js";

/** Draw an answer of GET /schedules/calendar. */
export function calendar({ from, to, items }) {
  const due = items.filter((item) => item.ticks.length > 0 && !item.paused);
  if (due.length === 0) return h("p", { class: "muted" }, t("schedules.nothing_due"));
  const span = to - from;
  const place = (time) => `${(100 * (time - from)) / span}%`;
  return h("div", { class: "timeline" },
    due.map((item) => h("div", { class: "timeline-row", dataset: { key: item.schedule_id } },
      h("a", { class: "timeline-name", href: href(["schedules", item.schedule_id]), title: item.schedule_id }, titleOf(item)),
      h("span", { class: "timeline-lane" }, item.ticks.map((tick) => {
        const mark = h("i", { class: "tick-mark", title: tick.local });
        mark.style.insetInlineStart = place(tick.due_at);
        return mark;
      })),
      h("span", { class: "muted nowrap right" }, `${item.ticks.length}${item.more ? "+" : ""}`))),
    h("div", { class: "timeline-row muted" }, h("span"),
      h("span", { class: "calendar-axis" }, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, moment(from + part * span, span - 1)))), h("span")));
}

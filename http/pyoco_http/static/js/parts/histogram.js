// When the runs of a list were submitted, as small bars; a part of them is chosen by dragging.

import { get } from "../api.js";
import { h, s } from "../dom.js";
import { t, word } from "../i18n.js";
import { latest } from "../latest.js";
import { whole } from "../page.js";
import { render } from "../render.js";
import { moment } from "../time.js";
import { bars } from "./chart.js";
import { dragged } from "./drag.js";
import { RUN_STATES, tone } from "./status.js";

const STEPS = 60;
const WIDTH = 600;
const HEIGHT = 44;
const DAY = 86_400;
const LEAST_DRAG = 4; // px

/** `choose(from, to)`: told of a choice, in unix seconds. Returns {element, load(query, signal)}. */
export function histogram({ choose }) {
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const brush = h("div", { class: "brush", hidden: true });
  const plot = h("div", { class: "histogram-plot" }, picture, brush);
  const foot = h("div", { class: "histogram-foot muted" });
  const element = h("section", { class: "histogram", "aria-label": t("histogram.label") }, plot, foot);
  let shown = null; // {from, to, steps, exact}
  let pointed = null;
  const loading = latest();

  /** `query`: that of the list. */
  async function load(query, signal) {
    const newest = loading();
    const to = query.submitted_before ?? Math.ceil(Date.now() / 1000);
    const from = query.submitted_after ?? to - DAY;
    try {
      const wanted = { ...query, submitted_after: from, submitted_before: to, updated_after: query.updated_after ?? from - 3600, steps: STEPS };
      await whole(() => get("/runs/counts", wanted, signal), (answer) => {
        if (!newest()) return;
        shown = { from, to, steps: answer.submissions, exact: answer.submissions_exact };
        draw();
      }, signal);
    } catch {
      // The list itself says what is wrong.
    }
  }

  function draw() {
    const { from, to, steps, exact } = shown;
    const parts = RUN_STATES.map((status) => ({ tone: tone(status), of: ({ counts }) => counts[status] ?? 0 }));
    const sums = steps.map(({ counts }) => Object.values(counts).reduce((sum, count) => sum + count, 0));
    const most = Math.max(...sums, 1);
    const total = sums.reduce((sum, count) => sum + count, 0);
    picture.setAttribute("aria-label", `${t("histogram.label")}: ${t("histogram.total", { count: total })}`);
    picture.replaceChildren(...bars(steps, parts)((count) => HEIGHT - (HEIGHT * count) / most, WIDTH / steps.length).flat(Infinity).filter(Boolean));
    const span = to - from;
    const said = pointed === null ? [t(exact ? "histogram.total" : "histogram.newest", { count: total }), " · ", t("histogram.drag")] : read(steps[pointed], span);
    render(foot, h("span", {}, moment(from, span)), h("span", { class: "histogram-said" }, said), h("span", {}, moment(to, span)));
  }

  function read({ start, counts }, span) {
    const each = RUN_STATES.filter((status) => counts[status]).map((status) => `${counts[status]} ${word("state", status)}`);
    return `${moment(start, span)} – ${moment(start + span / STEPS, span)}: ${each.join(", ") || "0"}`;
  }

  // Within 0…1.
  const place = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };

  plot.onpointermove = (event) => {
    if (shown === null) return;
    pointed = Math.min(shown.steps.length - 1, Math.floor(place(event) * shown.steps.length));
    draw();
  };
  plot.onpointerleave = () => { pointed = null; if (shown !== null) draw(); };

  let began = null;
  dragged(plot, () => shown !== null, (event) => {
    began ??= place(event);
    const [left, right] = [began, place(event)].sort((one, two) => one - two);
    brush.hidden = false;
    brush.style.left = `${100 * left}%`;
    brush.style.width = `${100 * (right - left)}%`;
  }, (event) => {
    const [left, right] = [began, place(event)].sort((one, two) => one - two);
    began = null;
    brush.hidden = true;
    if (event.type !== "pointerup" || (right - left) * plot.clientWidth < LEAST_DRAG) return;
    const time = (part) => shown.from + part * (shown.to - shown.from);
    choose(Math.floor(time(left)), Math.ceil(time(right)));
  });

  return { element, load };
}

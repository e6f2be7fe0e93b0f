// Charts over time: bars that stack counts, and lines of values; with axes, and a read-out where one points at.

import { h, s } from "../dom.js";
import { t } from "../i18n.js";
import { render } from "../render.js";
import { moment } from "../time.js";

const WIDTH = 600;
const HEIGHT = 130;
const LINES = 4; // across, about

/** A chart that is brought up to date by show(steps, {label, draw: (scale) => shapes, most, unit, read: (step) => text}). */
export function chart() {
  const element = h("figure", { class: "chart" });
  const rule = s("line", { class: "rule", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const read = h("div", { class: "chart-read", "aria-live": "off" });
  let now = null;
  let at = null; // the index of the step that is pointed at

  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const plot = h("div", {
    class: "chart-plot", tabindex: 0, role: "group",
    onpointermove: (event) => {
      const box = plot.getBoundingClientRect();
      point(Math.floor((now.steps.length * (event.clientX - box.left)) / box.width));
    },
    onpointerleave: () => point(null),
    onblur: () => point(null),
    onkeydown: (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      point((at ?? now.steps.length) + by);
    },
  }, picture);

  function point(index) {
    at = index === null || now === null ? null : Math.max(0, Math.min(now.steps.length - 1, index));
    draw();
  }

  function draw() {
    const { steps, label, shapes, most, unit, said, seconds } = now;
    const step = WIDTH / Math.max(steps.length, 1);
    rule.setAttribute("visibility", at === null ? "hidden" : "visible");
    if (at !== null) for (const name of ["x1", "x2"]) rule.setAttribute(name, (at + 0.5) * step);
    const marks = ticks(most);
    const top = marks.at(-1);
    picture.setAttribute("aria-label", label);
    plot.setAttribute("aria-label", `${label}. ${t("chart.point")}`);
    picture.replaceChildren(
      ...marks.map((mark) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: height(mark, top), y2: height(mark, top) })),
      ...shapes((value) => height(value, top), step).flat(Infinity).filter(Boolean), rule,
    );
    const times = [0, 0.25, 0.5, 0.75, 1].map((part) => steps[0].start + part * steps.length * seconds);
    render(
      element,
      h("div", { class: "chart-y muted", "aria-hidden": "true" }, marks.toReversed().map((mark) => h("span", {}, unit(mark)))),
      plot,
      h("div", { class: "chart-x muted", "aria-hidden": "true" }, times.map((time, index) => h("span", {}, index === 4 ? t("chart.now") : moment(time, steps.length * seconds)))),
      read,
    );
    render(read, at === null ? h("span", { class: "muted" }, t("chart.hint")) : said(steps[at], seconds));
  }

  return {
    element,
    /** `shapes(y, step)`: what is drawn, `y(value)` its height; `most`: the greatest value; `said(step)`: the read-out. */
    show(steps, parts) {
      const seconds = steps.length > 1 ? steps[1].start - steps[0].start : 60;
      now = { steps, seconds, ...parts };
      if (at !== null) at = Math.min(at, steps.length - 1);
      draw();
    },
  };
}

const height = (value, top) => HEIGHT - (HEIGHT * value) / top;

/** Round values from 0 to one that is not less than `most`. */
export function ticks(most) {
  if (!(most > 0)) return [0, 1];
  const rough = most / LINES;
  const power = 10 ** Math.floor(Math.log10(rough));
  const width = power * [1, 2, 5, 10].find((factor) => power * factor >= rough * 0.999);
  const count = Math.ceil(most / width - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * width).toPrecision(12)));
}

/** Bars of the parts [{tone, of: (step) => count}] on top of each other. */
export function bars(steps, parts) {
  return (y, step) => steps.map((each, index) => {
    let below = 0;
    return parts.map((part) => {
      const count = part.of(each);
      if (!count) return null;
      const bottom = y(below);
      below += count;
      return s("rect", { class: `bar-${part.tone}`, x: index * step + 0.5, y: y(below), width: Math.max(step - 1, 1), height: bottom - y(below) });
    });
  });
}

/** A line of a value of each step, null where there is none. */
export function line(steps, of, look) {
  return (y, step) => {
    const points = steps.flatMap((each, index) => (of(each) === null ? [] : [`${((index + 0.5) * step).toFixed(1)},${y(of(each)).toFixed(1)}`]));
    return [
      points.length > 1 ? s("polyline", { class: `line ${look}`, points: points.join(" "), "vector-effect": "non-scaling-stroke" }) : null,
      // Where there are few they would not be seen otherwise.
      points.length < 40 ? points.map((each) => s("line", { class: `dot ${look}`, x1: each.split(",")[0], x2: each.split(",")[0], y1: each.split(",")[1], y2: each.split(",")[1], "vector-effect": "non-scaling-stroke" })) : null,
    ];
  };
}

/** What the colours mean: [{look, name, value}]. */
export function legend(items) {
  return h("div", { class: "legend" }, items.map(({ look, name, value }) => h("span", {}, h("i", { class: look }), name, " ", h("b", {}, value))));
}

// The list of runs: live, filtered by the URL, made for the keyboard.

import { get } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { visible } from "../exact.js";
import { t, word } from "../i18n.js";
import { whole } from "../page.js";
import { bulk } from "../parts/bulk.js";
import { empty, tellError } from "../parts/feedback.js";
import { foldable } from "../parts/foldable.js";
import { histogram } from "../parts/histogram.js";
import { listTimes, rangeField, timesOf } from "../parts/range.js";
import { savedViews } from "../parts/saved_views.js";
import { badge, ended, marks, RARE_STATES, RUN_STATES, runState } from "../parts/status.js";
import { suggestions } from "../parts/suggest.js";
import { windowTable } from "../parts/window.js";
import { render } from "../render.js";
import { go, href, setQuery } from "../router.js";
import { RunsList } from "../runs_list.js";
import { follow } from "../sse.js";
import { took, when } from "../time.js";

const FIELDS = ["q", "flow", "tag", "worker_id"];
const NARROWING = [...FIELDS, "status", "late", "schedule_id"]; // what the gateway is asked as it stands in the URL
const TIMES = ["range", "from", "to"];
const TYPING_MS = 250;
const COUNTS_MS = 1000;
const HISTOGRAM_MS = 5000;
const CLOCK_MS = 1000;
const MOST_CHOSEN = 10_000;

export function runsView(main, { query, signal, setLive }) {
  const filters = Object.fromEntries([...query].filter(([name]) => NARROWING.includes(name) || TIMES.includes(name)));
  let cursor = null; // the run that the keyboard is at
  let following = new AbortController();
  let list = new RunsList({}, () => draw(), signal);

  const counts = h("div", { class: "counts", role: "group", "aria-label": t("runs.by_status") });
  const newer = h("button", { class: "primary small", type: "button", hidden: true, onclick: () => { table.toTop(); list.release(); } });
  const note = h("div");
  const chosen = bulk({ find: (runId) => list.run(runId), changed: () => draw(), rest: () => (list.complete ? null : chooseRest) });
  const all = h("input", { type: "checkbox", "aria-label": t("runs.select_all"), onchange: () => chosen.choose(all.checked ? list.items.map((item) => item.run_id) : []) });
  const table = windowTable({
    label: t("nav.runs"),
    columns: [
      { label: all, class: "col-check" },
      { label: t("runs.status"), class: "col-status" },
      { label: t("runs.run"), class: "col-id" },
      { label: t("runs.flow"), class: "col-flow" },
      { label: t("runs.tag"), class: "col-short hide-narrow" },
      { label: t("runs.worker"), class: "col-short hide-narrow" },
      { label: t("runs.updated"), class: "col-time" },
      { label: t("run.took"), class: "col-took hide-narrow" },
      { label: t("runs.error"), class: "hide-narrow" },
    ],
    row,
    onEnd: () => list.more(),
  });

  const known = suggestions(signal);
  const range = rangeField(change);
  const saved = savedViews({ filters: () => filters, open: (those) => { for (const name of [...NARROWING, ...TIMES]) delete filters[name]; change(those); fill(); } });
  const starts = histogram({ choose: (from, to) => { change({ range: "", from: String(from), to: String(to) }); fill(); } });
  const late = h("input", { type: "checkbox", checked: filters.late === "true", onchange: () => change({ late: late.checked ? "true" : "" }) });
  const lateOnly = h("label", { class: "nowrap check" }, late, " ", t("late.only"));
  const folded = foldable("runs-filters", h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    FIELDS.map(field), range.element, lateOnly, h("button", { type: "button", class: "quiet", onclick: clear }, t("runs.clear")), saved.element, known.element));

  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.runs")), newer, h("span", { class: "spacer" }), folded.button,
      h("a", { class: "button primary", href: "#/submit" }, t("nav.submit"))),
    counts,
    folded.element,
    starts.element,
    h("section", { class: "card runs" }, chosen.element, table.element, note),
    h("p", { class: "muted hide-narrow" }, t("runs.keys")),
  );

  const draw = gathered(() => {
    if (signal.aborted) return;
    table.show(list.items);
    newer.hidden = list.waiting === 0;
    replace(newer, t("runs.newer", { count: list.waiting }));
    all.checked = chosen.size > 0 && chosen.size >= list.items.length;
    chosen.draw();
    drawNote();
  });

  async function chooseRest() {
    await list.rest(MOST_CHOSEN);
    chosen.choose(list.items.map((item) => item.run_id));
  }

  // Filters -----------------------------------------------------------------------------------------

  function field(name) {
    let timer;
    const input = h("input", {
      type: "search",
      id: `filter-${name}`,
      value: filters[name] ?? "",
      list: known.list(name),
      onfocus: known.load,
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(() => change({ [name]: input.value.trim() }), TYPING_MS);
      },
      onkeydown: (event) => { if (event.key === "Escape") input.blur(); },
    });
    return h("label", { class: name === "q" ? "field grow" : "field", for: `filter-${name}` }, t(`runs.filter.${name}`), input);
  }

  // The fields as the filters are.
  function fill() {
    for (const name of FIELDS) document.getElementById(`filter-${name}`).value = filters[name] ?? "";
    range.show(filters);
    late.checked = filters.late === "true";
  }

  function clear() {
    change(Object.fromEntries(Object.keys(filters).map((name) => [name, ""])));
    fill();
  }

  function change(changes) {
    if (signal.aborted) return;
    for (const [name, value] of Object.entries(changes)) {
      if (value) filters[name] = value;
      else delete filters[name];
    }
    setQuery(filters);
    cursor = null;
    chosen.choose([]);
    table.toTop();
    start();
  }

  // The filters as the gateway is asked. "The last hour" is another one each time.
  function asked() {
    return { ...Object.fromEntries(NARROWING.filter((name) => filters[name]).map((name) => [name, filters[name]])), ...listTimes(filters) };
  }

  function start() {
    following.abort();
    following = new AbortController();
    const { signal: until } = following;
    const wanted = asked();
    saved.show();
    folded.show(Object.keys(filters).filter((name) => name !== "status" && name !== "to").length);
    list = new RunsList(wanted, () => { if (!until.aborted) draw(); }, until);
    starts.load(wanted, until);
    let told = false;
    follow("/runs/stream", {
      query: wanted,
      signal: until,
      on: {
        state: (state, reason) => {
          setLive(state, reason);
          drawCounts();
          // Without a stream the list is still worth to be seen.
          if (state === "lost" && !told && list.items.length === 0) list.reload();
        },
        event: (name, data) => {
          // From "hello" on nothing is missed. One who comes back is told what was missed, or "reset";
          // but not what was deleted, so whoever has not scrolled down gets the list as it is now.
          if (name === "hello" ? !told || table.atTop() : name === "reset") list.reload();
          if (name === "hello") told = true;
          else if (name === "run") list.put(data.run, !table.atTop());
          else if (name === "gone") list.drop(data.run_id);
          if (list.overgrown && table.atTop() && chosen.size === 0) list.reload();
          if (name === "heartbeat") return;
          drawCounts();
          drawStarts();
        },
        fail: (error) => {
          list.error = error;
          draw();
        },
      },
    });
  }

  // Counts ------------------------------------------------------------------------------------------

  const drawCounts = atMostEach(COUNTS_MS, async () => {
    const { status: _, ...others } = asked();
    const { signal: until } = following;
    const failed = (error) => { if (error.status) tellError(error); };
    try {
      await whole(() => get("/runs/counts", others, until), showCounts, until, failed);
    } catch (error) {
      if (!until.aborted) failed(error);
    }
  });

  function showCounts({ counts: byStatus, exact }) {
    const total = RUN_STATES.reduce((sum, status) => sum + (byStatus[status] ?? 0), 0);
    const shownStates = RUN_STATES.filter((status) => !RARE_STATES.has(status) || byStatus[status] || filters.status === status);
    const shown = (count) => (exact ? String(count) : `${count}+`);
    render(counts, chip("", shown(total)), shownStates.map((status) => chip(status, shown(byStatus[status] ?? 0))));
  }

  const drawStarts = atMostEach(HISTOGRAM_MS, () => starts.load(asked(), following.signal));

  function chip(status, count) {
    return h(
      "button",
      { class: "count", type: "button", "aria-pressed": String((filters.status ?? "") === status), dataset: { status }, onclick: () => change({ status }) },
      status ? word("state", status) : t("runs.all"),
      h("b", {}, count),
    );
  }

  // Rows --------------------------------------------------------------------------------------------

  function row(item) {
    const { run_id: runId, start_time: started, end_time: end, error } = item;
    const picked = chosen.has(runId);
    const going = item.status === "RUNNING" || item.status === "CANCELLING";
    return h(
      "tr",
      {
        dataset: { key: runId }, class: [runId === cursor ? "at" : null, error ? "has-error" : null].filter(Boolean).join(" ") || null,
        "aria-selected": String(picked), onclick: (event) => { if (!event.target.closest("a, input")) go(["runs", runId]); },
      },
      h("td", { class: "col-check" }, h("input", { type: "checkbox", checked: picked, "aria-label": t("runs.select", { run: runId }), onchange: () => chosen.pick(runId) })),
      h("td", { class: "c-status" }, badge(runState(item))),
      h("td", { class: "c-id" }, h("a", { class: "mono", href: href(["runs", runId]), title: runId }, runId.slice(0, 8))),
      h("td", { class: "c-flow", title: item.flow_name, dir: "auto" }, visible(item.flow_name), marks(item).map((mark) => mark && [" ", mark])),
      h("td", { class: "c-tag hide-narrow", title: item.tag ?? "" }, item.tag ?? ""),
      h("td", { class: "c-worker hide-narrow", title: item.worker_id ?? "" }, item.worker_id ?? ""),
      h("td", { class: "c-time" }, when(item.updated_at)),
      h("td", { class: "c-took hide-narrow" }, started && (end || going) ? took((end ?? Date.now() / 1000) - started) : ""),
      h("td", { class: "c-error hide-narrow error-text", title: error ?? "", dir: "auto" }, visible(error) ?? ""),
    );
  }

  function drawNote() {
    if (list.error) render(note, h("div", { class: "card-body" }, h("div", { class: "problem" }, list.error.message)));
    else if (list.items.length === 0 && list.complete) {
      const filtered = Object.keys(filters).length > 0;
      render(note, filtered ? empty(t("runs.none"), t("runs.none.filtered"))
        : empty(t("runs.none"), t("runs.none.next"), "pyoco-client submit-yaml --workflow-file flow.yaml --flow-name main"));
    } else render(note);
  }

  // Keyboard ----------------------------------------------------------------------------------------

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog")) return;
    const item = cursor === null ? null : list.run(cursor);
    if (event.key === "/") document.getElementById("filter-q").focus();
    else if (event.key === "j" || event.key === "ArrowDown") move(1);
    else if (event.key === "k" || event.key === "ArrowUp") move(-1);
    else if (event.key === "x" && item) chosen.pick(cursor);
    else if (event.key === "Enter" && item && !event.target.closest?.("a, button")) go(["runs", cursor]);
    else if (event.key === "Escape" && chosen.size) chosen.choose([]);
    else return;
    event.preventDefault();
  }

  function move(by) {
    const { items } = list;
    const now = items.findIndex((item) => item.run_id === cursor);
    const next = Math.min(items.length - 1, Math.max(0, now + by));
    cursor = items[next]?.run_id ?? null;
    table.reveal(next);
    draw();
  }

  // What is running takes longer each second, and what was submitted long ago leaves the last hour.
  const clock = setInterval(() => {
    if (document.hidden) return;
    const { from } = timesOf(filters);
    const gone = from === null ? [] : list.items.filter((each) => each.submitted_at < from);
    if (gone.length > 0) {
      for (const item of gone) list.drop(item.run_id);
      drawCounts();
      drawStarts();
    }
    if (list.items.some((item) => !ended(item.status) && item.start_time)) draw();
  }, CLOCK_MS);
  signal.addEventListener("abort", () => clearInterval(clock));
  addEventListener("keydown", onKey, { signal });
  addEventListener("resize", () => table.resized(), { signal });
  signal.addEventListener("abort", () => following.abort());
  range.show(filters);
  start();
}

/** Run at most so often, never twice at the same time, and once more after the last wish. */
function atMostEach(milliseconds, run) {
  let wished = false;
  let going = false;
  let last = 0;
  return async () => {
    wished = true;
    if (going) return;
    going = true;
    while (wished) {
      await new Promise((end) => setTimeout(end, last + milliseconds - Date.now()));
      wished = false;
      last = Date.now();
      await run();
    }
    going = false;
  };
}

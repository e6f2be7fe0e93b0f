// The list of runs: live, filtered by the URL, made for the keyboard.

import { get, path as apiPath, send } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { confirm, empty, tell, tellError } from "../parts/feedback.js";
import { badge, ended, RUN_STATUSES } from "../parts/status.js";
import { windowTable } from "../parts/window.js";
import { go, href, setQuery } from "../router.js";
import { RunsList } from "../runs_list.js";
import { follow } from "../sse.js";
import { when } from "../time.js";

const FIELDS = ["q", "flow", "tag", "worker_id"];
const TYPING_MS = 250;
const AT_ONCE = 8;

export function runsView(main, { query, signal, setLive }) {
  const filters = Object.fromEntries(query);
  const chosen = new Set();
  let cursor = -1; // the row of the keyboard
  let following = new AbortController();
  let list = new RunsList(filters, () => draw(), signal);

  const counts = h("div", { class: "counts", role: "group", "aria-label": t("runs.by_status") });
  const fields = FIELDS.map(field);
  const newer = h("button", { class: "primary small", type: "button", hidden: true, onclick: () => { table.toTop(); list.release(); } });
  const bulk = h("div", { class: "card-head", hidden: true });
  const note = h("div");
  const table = windowTable({
    label: t("nav.runs"),
    columns: [
      { label: h("input", { type: "checkbox", "aria-label": t("runs.select_all"), onchange: (event) => selectAll(event.target.checked) }), class: "col-check" },
      { label: t("runs.status"), class: "col-status" },
      { label: t("runs.run"), class: "col-id" },
      { label: t("runs.flow") },
      { label: t("runs.tag"), class: "col-short hide-narrow" },
      { label: t("runs.worker"), class: "col-id hide-narrow" },
      { label: t("runs.updated"), class: "col-time" },
      { label: t("runs.error"), class: "hide-narrow" },
    ],
    row,
    onEnd: () => list.more(),
  });

  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.runs")), newer, h("span", { class: "spacer" }),
      h("a", { class: "button primary", href: "#/submit" }, t("nav.submit"))),
    counts,
    h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, fields,
      h("button", { type: "button", class: "quiet", onclick: clear }, t("runs.clear"))),
    h("section", { class: "card" }, bulk, table.element, note),
    h("p", { class: "muted hide-narrow" }, t("runs.keys")),
  );

  const draw = gathered(() => {
    if (signal.aborted) return;
    table.show(list.items);
    newer.hidden = list.held.size === 0;
    replace(newer, t("runs.newer", { count: list.held.size }));
    drawNote();
    drawBulk();
  });

  function field(name) {
    let timer;
    const input = h("input", {
      type: "search",
      id: `filter-${name}`,
      value: filters[name] ?? "",
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(() => change({ [name]: input.value.trim() }), TYPING_MS);
      },
    });
    return h("label", { class: name === "q" ? "field grow" : "field", for: `filter-${name}` }, t(`runs.filter.${name}`), input);
  }

  function clear() {
    for (const name of FIELDS) document.getElementById(`filter-${name}`).value = "";
    change(Object.fromEntries(Object.keys(filters).map((name) => [name, ""])));
  }

  function change(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (value) filters[name] = value;
      else delete filters[name];
    }
    setQuery(filters);
    chosen.clear();
    cursor = -1;
    start();
  }

  function start() {
    following.abort();
    following = new AbortController();
    const { signal: until } = following;
    list = new RunsList({ ...filters }, draw, until);
    drawCounts();
    list.reload();
    follow("/runs/stream", {
      query: filters,
      signal: until,
      on: {
        state: (state) => {
          setLive(state);
          drawCounts();
        },
        event: onEvent,
        fail: tellError,
      },
    });
  }

  function onEvent(name, data) {
    // From "hello" on nothing is missed; "reset": too much was.
    if (name === "hello" || name === "reset") list.reload();
    else if (name === "run") list.put(data.run, !table.atTop());
    else if (name === "gone") list.drop(data.run_id);
    else if (name === "counts") showCounts(data.counts);
    else return;
    if (name !== "counts") drawCounts();
  }

  const drawCounts = debounced(async () => {
    const { status: _, ...others } = filters;
    try {
      showCounts((await get("/runs/counts", others, signal)).counts);
    } catch (error) {
      tellError(error);
    }
  });

  function showCounts(byStatus) {
    const total = RUN_STATUSES.reduce((sum, status) => sum + (byStatus[status] ?? 0), 0);
    replace(counts, chip("", total), RUN_STATUSES.map((status) => chip(status, byStatus[status] ?? 0)));
  }

  function chip(status, count) {
    return h(
      "button",
      {
        class: "count",
        type: "button",
        "aria-pressed": String((filters.status ?? "") === status),
        dataset: { status },
        onclick: () => change({ status }),
      },
      status ? word("state", status) : t("runs.all"),
      h("b", {}, count),
    );
  }

  function row(item, index) {
    const picked = chosen.has(item.run_id);
    return h(
      "tr",
      { dataset: { key: item.run_id }, "aria-selected": String(picked || index === cursor) },
      h("td", {}, h("input", { type: "checkbox", checked: picked, "aria-label": t("runs.select", { run: item.run_id }), onchange: () => pick(item.run_id) })),
      h("td", {}, badge(item.status)),
      h("td", {}, h("a", { class: "mono", href: href(["runs", item.run_id]), title: item.run_id }, item.run_id.slice(0, 8))),
      h("td", { title: item.flow_name }, item.flow_name),
      h("td", { class: "hide-narrow" }, item.tag ?? ""),
      h("td", { class: "hide-narrow", title: item.worker_id ?? "" }, item.worker_id ?? ""),
      h("td", {}, when(item.updated_at)),
      h("td", { class: "hide-narrow error-text", title: item.error ?? "" }, item.error ?? ""),
    );
  }

  function drawNote() {
    if (list.error) replace(note, h("div", { class: "card-body" }, h("div", { class: "problem" }, list.error.message)));
    else if (list.items.length === 0 && list.complete) {
      const filtered = Object.keys(filters).length > 0;
      replace(note, filtered ? empty(t("runs.none"), t("runs.none.filtered"))
        : empty(t("runs.none"), t("runs.none.next"), "pyoco-client submit-yaml --workflow-file flow.yaml --flow-name main"));
    } else replace(note);
  }

  // Choosing and acting ---------------------------------------------------------------------------

  function pick(runId) {
    if (!chosen.delete(runId)) chosen.add(runId);
    draw();
  }

  function selectAll(on) {
    chosen.clear();
    if (on) for (const item of list.items) chosen.add(item.run_id);
    draw();
  }

  function drawBulk() {
    bulk.hidden = chosen.size === 0;
    if (chosen.size === 0) return;
    const items = [...chosen].map((id) => list.byId.get(id)).filter(Boolean);
    const open = items.filter((item) => !ended(item.status));
    const done = items.filter((item) => ended(item.status));
    replace(
      bulk,
      h("strong", {}, t("runs.chosen", { count: chosen.size })),
      h("span", { class: "spacer" }),
      h("button", { class: "danger small", type: "button", disabled: open.length === 0, onclick: () => act("cancel", open) }, t("runs.cancel", { count: open.length })),
      h("button", { class: "small", type: "button", disabled: done.length === 0, onclick: () => act("retry", done) }, t("runs.retry", { count: done.length })),
      h("button", { class: "quiet small", type: "button", onclick: () => selectAll(false) }, t("runs.unselect")),
    );
  }

  async function act(what, items) {
    const agreed = await confirm({
      title: t(`runs.${what}`, { count: items.length }),
      text: t(`runs.${what}.sure`, { count: items.length }),
      action: t(`run.${what}`),
      danger: what === "cancel",
    });
    if (!agreed) return;
    let failed = 0;
    const queue = [...items];
    const one = async () => {
      for (let item = queue.pop(); item; item = queue.pop()) {
        try {
          await send("POST", `${apiPath`/runs/${item.run_id}`}/${what}`);
        } catch {
          failed += 1;
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    tell(t("runs.acted", { done: items.length - failed, failed }), { bad: failed > 0 });
    selectAll(false);
  }

  // Keyboard --------------------------------------------------------------------------------------

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, dialog")) return;
    const item = list.items[cursor];
    if (event.key === "/") document.getElementById("filter-q").focus();
    else if (event.key === "j" || event.key === "ArrowDown") move(1);
    else if (event.key === "k" || event.key === "ArrowUp") move(-1);
    else if (event.key === "x" && item) pick(item.run_id);
    else if (event.key === "Enter" && item && !event.target.closest?.("a, button")) go(["runs", item.run_id]);
    else return;
    event.preventDefault();
  }

  function move(by) {
    cursor = Math.min(list.items.length - 1, Math.max(0, cursor + by));
    table.reveal(cursor);
    draw();
  }

  addEventListener("keydown", onKey, { signal });
  addEventListener("resize", () => table.resized(), { signal });
  signal.addEventListener("abort", () => following.abort());
  start();
}

/** At most one call a second, and one after the last wish. */
function debounced(run) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      run();
    }, Math.max(0, last + 1000 - Date.now()));
  };
}

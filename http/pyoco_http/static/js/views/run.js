// One run: its graph, time line, logs, history and data, live.

import { get, path as apiPath } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { write } from "../exact.js";
import { t, word } from "../i18n.js";
import { postOnce } from "../once.js";
import { patiently } from "../page.js";
import { runAgain, submitted } from "../parts/again.js";
import { cancelRun } from "../parts/cancelling.js";
import { showCommands } from "../parts/commands.js";
import { save } from "../parts/download.js";
import { facts, trouble } from "../parts/facts.js";
import { copy, showMissing, tellError } from "../parts/feedback.js";
import { filePanel } from "../parts/files.js";
import { drawGraph } from "../parts/graph.js";
import { history } from "../parts/history.js";
import { logPanel } from "../parts/logs.js";
import { pressed } from "../parts/pressed.js";
import { badge, ended, marks, runState } from "../parts/status.js";
import { tabs } from "../parts/tabs.js";
import { moveRun } from "../parts/moving.js";
import { attempts, outputOf, taskPanel } from "../parts/tasks.js";
import { timeline } from "../parts/timeline.js";
import { workflowPanel } from "../parts/workflow.js";
import { render } from "../render.js";
import { going, setQuery } from "../router.js";
import { follow } from "../sse.js";

const WATCH_SECONDS = 600;
const CLOCK_MS = 1000;
const WORKER_MS = 10_000;

export function runView(main, { path, query, signal, setLive }) {
  const runId = path[1];
  const base = apiPath`/runs/${runId}`;
  let snapshot = null;
  let worker = null; // {id, state} of the worker that has it
  let graph = null;
  let whole = false; // whether the graph has its edges, and not the tasks alone
  let task = query.get("task"); // the chosen one
  let tab = query.get("tab") ?? "";
  let logs = null;

  const head = h("div", { class: "view-head" });
  const problem = h("div");
  const picture = h("div", { class: "picture" });
  const terms = h("dl", { class: "facts" });
  const lanes = h("div", { class: "card-body" });
  const before = h("div");
  const detail = h("div", { class: "card-body" });
  const data = h("div", { class: "card-body" });
  const kept = filePanel(base, signal);
  const line = timeline(choose);
  const tasks = taskPanel(base, choose);
  const panels = tabs({
    label: t("run.more"),
    signal,
    first: tab,
    onShow: (name) => { tab = name; remember(); draw(); },
    items: {
      task: { label: t("run.task"), make: () => detail },
      logs: { label: t("run.logs"), make: openLogs },
      history: { label: t("run.history"), make: (part) => history(`${base}/events`, signal, part, runId.slice(0, 8)) },
      data: { label: t("run.data"), make: () => data },
      files: { label: t("run.files"), make: () => kept.element },
      flow: { label: "flow.yaml", make: () => workflowPanel(base, () => snapshot, signal) },
    },
  });
  const card = (key, body) => h("section", { class: "card", "aria-label": t(key) }, h("div", { class: "card-head" }, h("h2", {}, t(key))), body);
  replace(
    main,
    head,
    problem,
    h("div", { class: "columns" },
      h("div", { class: "stack" }, card("run.graph", picture), card("run.timeline", lanes)),
      card("run.facts", h("div", { class: "card-body" }, terms))),
    before,
    h("section", { class: "card", "aria-label": t("run.more") }, panels.element),
  );

  // The first tab needs no word in the address.
  function remember() {
    if (!signal.aborted) setQuery({ tab: tab === "task" ? "" : tab, task });
  }

  const draw = gathered(() => {
    if (signal.aborted || snapshot === null) return;
    // What its worker does now is nothing to a run that has ended.
    const run = { ...snapshot, worker_state: worker?.id === snapshot.worker_id && !ended(snapshot.status) ? worker?.state : null };
    document.title = `${run.flow_name} ${word("state", runState(run))} · pyoco-server`;
    drawHead(run);
    render(problem, trouble(run));
    graph?.update(run, task);
    render(terms, facts(run));
    render(lanes, line.show(run, task) ?? h("p", { class: "muted" }, t("run.not_started")));
    const tried = attempts(run);
    render(before, tried === null ? null : card("run.attempts", tried));
    render(detail, tasks.show(run, task));
    // All results as text, and all files: not once a second for a tab that is closed.
    if (tab === "data") drawData(run);
    if (tab === "files") kept.draw(run);
  });

  function drawHead(run) {
    const over = ended(run.status);
    render(
      head,
      h("a", { href: "#/runs" }, t("nav.runs")),
      h("h1", { dir: "auto" }, run.flow_name),
      badge(runState(run)),
      marks(run),
      h("button", { type: "button", class: "quiet small mono muted id", title: t("run.copy_id"), onclick: () => copy(runId) }, runId),
      h("span", { class: "spacer" }),
      h("span", { class: "buttons" },
        h("button", { type: "button", class: "quiet", onclick: () => showCommands(snapshot) }, t("run.copy_cli")),
        h("button", { type: "button", class: "danger", dataset: { key: "cancel" }, disabled: over || run.status === "CANCELLING", onclick: pressed(() => cancelRun(snapshot, base)) }, t("run.cancel")),
        runState(run) === "SCHEDULED" ? h("button", { type: "button", dataset: { key: "move" }, onclick: pressed(() => moveRun(snapshot, base)) }, t("move.do")) : null,
        h("button", { type: "button", dataset: { key: "again" }, onclick: pressed(again) }, t("again.do")),
        h("button", { type: "button", dataset: { key: "retry" }, disabled: !over, onclick: pressed(retry) }, t("run.retry"))),
    );
  }

  function drawData(run) {
    const outputs = Object.fromEntries(Object.entries(run.task_records ?? {}).filter(([, record]) => record.state === "SUCCEEDED").map(([name, record]) => [name, outputOf(record)]));
    render(
      data,
      h("div", { class: "right" }, h("button", { type: "button", class: "quiet small", onclick: () => save(new Blob([json(snapshot)], { type: "application/json" }), `${runId.slice(0, 8)}.json`) }, t("do.json"))),
      h("h3", {}, t("run.params")), run.params_left_out ? h("p", { class: "muted" }, t("run.params_left_out")) : h("pre", { class: "code", tabindex: 0 }, json(run.params)),
      h("h3", {}, t("run.outputs")), run.task_records_truncated ? h("p", { class: "muted" }, t("run.truncated")) : h("pre", { class: "code", tabindex: 0 }, json(outputs)),
    );
  }

  function choose(name) {
    task = name;
    logs?.only(name);
    panels.show("task");
    draw();
  }

  function openLogs(part) {
    logs = logPanel(`${base}/logs`, signal, part, runId.slice(0, 8));
    if (task !== null) logs.only(task);
    return logs.element;
  }

  async function retry() {
    const to = going();
    try {
      const answer = await postOnce(`${base}/retry`);
      submitted(answer.run_id, to);
    } catch (error) {
      tellError(error);
    }
  }

  async function again() {
    const to = going();
    const fresh = await runAgain(snapshot, base);
    if (fresh !== null) submitted(fresh, to);
  }

  // A run of a worker's own flow has a picture only when it has begun: it is asked for again then.
  let asked = "";
  async function loadGraph() {
    const begun = Object.keys(snapshot.tasks ?? {}).length > 0;
    const now = `${snapshot.attempt} ${begun} ${ended(snapshot.status)}`;
    if (whole || asked === now) return;
    asked = now;
    if (!begun && !snapshot.workflow_yaml_sha256) {
      replace(picture, h("p", { class: "card-body muted" }, t("run.graph.none")));
      return;
    }
    try {
      const shape = await patiently(() => get(`${base}/graph`, {}, signal), signal);
      if (whole || (asked !== now && shape.source === "tasks")) return;
      whole = shape.source !== "tasks";
      graph = drawGraph(shape, choose);
      replace(picture, graph.element);
    } catch (error) {
      if (!signal.aborted && graph === null && asked === now) replace(picture, h("p", { class: "card-body muted" }, error.status === 404 ? t("run.graph.unknown") : error.message));
    }
    draw();
  }

  // Its state is no part of the snapshots, and a worker that died sends none.
  let looking = null; // the id of the worker that is asked about
  async function lookAtWorker() {
    const id = snapshot?.worker_id;
    if (!id || id === looking || ended(snapshot.status) || signal.aborted) return;
    looking = id;
    try {
      const { worker_state: state } = await get(base, {}, signal);
      if (looking === id) worker = { id, state };
    } catch {
      // The badge beside the worker is all that is missing then.
    }
    if (looking === id) looking = null;
    draw();
  }

  follow(`${base}/watch`, {
    query: { include: "records", timeout_sec: WATCH_SECONDS },
    signal,
    until: (name, event) => name === "snapshot" && ended(event.snapshot.status),
    on: {
      state: setLive,
      event: (name, event) => {
        if (name !== "snapshot") return;
        snapshot = event.snapshot;
        draw();
        loadGraph();
        if (snapshot.worker_id !== worker?.id) lookAtWorker();
      },
      end: () => setLive(""), // what has ended never changes again
      fail: (error) => { setLive(""); showMissing(main, error, t("run.missing", { run: runId }), h("a", { href: "#/runs" }, t("nav.runs"))); },
    },
  });

  const whileItGoes = (act) => () => { if (snapshot && !ended(snapshot.status) && !document.hidden) act(); };
  const clocks = [setInterval(whileItGoes(draw), CLOCK_MS), setInterval(whileItGoes(lookAtWorker), WORKER_MS)];
  signal.addEventListener("abort", () => clocks.forEach(clearInterval));
}

const json = (value) => write(value ?? null, 2);

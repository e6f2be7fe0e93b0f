// One run: its graph, time line, logs, history and data, live.

import { call, get, path as apiPath, send } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { confirm, copy, tell, tellError } from "../parts/feedback.js";
import { drawGraph } from "../parts/graph.js";
import { history } from "../parts/history.js";
import { logPanel } from "../parts/logs.js";
import { badge, ended } from "../parts/status.js";
import { tabs } from "../parts/tabs.js";
import { attempts, taskPanel } from "../parts/tasks.js";
import { timeline } from "../parts/timeline.js";
import { go, href } from "../router.js";
import { follow } from "../sse.js";
import { bytes, duration, when } from "../time.js";

const WATCH_SECONDS = 600;

export function runView(main, { path, signal, setLive }) {
  const runId = path[1];
  const base = apiPath`/runs/${runId}`;
  let snapshot = null;
  let graph = null;
  let task = null;

  const head = h("div", { class: "view-head" });
  const facts = h("dl", { class: "facts" });
  const trouble = h("div");
  const picture = h("div", { class: "graph" });
  const lanes = h("div", { class: "card-body" });
  const detail = h("div", { class: "card-body" });
  const panels = tabs({
    label: t("run.more"),
    items: {
      task: { label: t("run.task"), make: () => detail },
      logs: { label: t("run.logs"), make: () => logPanel(`${base}/logs`, signal) },
      history: { label: t("run.history"), make: () => history(`${base}/events`, signal) },
      data: { label: t("run.data"), make: () => data },
      files: { label: t("run.files"), make: () => files },
    },
  });
  const data = h("div", { class: "card-body" });
  const files = h("div", { class: "card-body" });

  replace(
    main,
    head,
    trouble,
    h("div", { class: "columns" },
      h("section", { class: "card", "aria-label": t("run.graph") }, h("div", { class: "card-head" }, h("h2", {}, t("run.graph"))), picture),
      h("section", { class: "card", "aria-label": t("run.facts") }, h("div", { class: "card-head" }, h("h2", {}, t("run.facts"))), h("div", { class: "card-body" }, facts))),
    h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("run.timeline"))), lanes),
    h("section", { class: "card" }, panels.element),
  );

  const draw = gathered(() => {
    if (signal.aborted || snapshot === null) return;
    drawHead();
    drawFacts();
    drawTrouble();
    graph?.update(snapshot);
    replace(lanes, timeline(snapshot) ?? h("p", { class: "muted" }, t("run.not_started")), attempts(snapshot));
    replace(detail, taskPanel(snapshot, task, (name) => { task = name; draw(); }));
    drawData();
    drawFiles();
  });

  function drawHead() {
    document.title = `${snapshot.flow_name} ${snapshot.status} · pyoco-server`;
    const over = ended(snapshot.status);
    replace(
      head,
      h("a", { href: "#/runs" }, t("nav.runs")),
      h("h1", {}, snapshot.flow_name),
      badge(snapshot.status),
      h("code", { class: "muted" }, runId),
      h("span", { class: "spacer" }),
      h("button", { type: "button", class: "quiet", onclick: () => copy(command()) }, t("run.copy_cli")),
      h("button", { type: "button", class: "danger", disabled: over || snapshot.status === "CANCELLING", onclick: cancel }, t("run.cancel")),
      h("button", { type: "button", disabled: !over, onclick: retry }, t("run.retry")),
    );
  }

  function drawFacts() {
    const queued = snapshot.start_time && snapshot.submitted_at ? snapshot.start_time - snapshot.submitted_at : null;
    const took = snapshot.start_time ? (snapshot.end_time ?? Date.now() / 1000) - snapshot.start_time : null;
    const rows = [
      [t("run.submitted"), when(snapshot.submitted_at)],
      [t("run.started"), [when(snapshot.start_time), queued === null ? null : h("span", { class: "muted" }, ` ${t("run.waited", { duration: duration(queued) })}`)]],
      [t("run.ended"), when(snapshot.end_time)],
      [t("run.took"), duration(took)],
      [t("runs.tag"), h("a", { href: href(["runs"], { tag: snapshot.tag ?? "" }) }, snapshot.tag ?? "")],
      [t("runs.worker"), snapshot.worker_id ? [h("a", { href: "#/workers" }, snapshot.worker_id), " ", snapshot.worker_state ? badge(snapshot.worker_state) : null] : "–"],
      [t("run.attempt"), snapshot.attempt ? `${snapshot.attempt}${snapshot.max_attempts ? ` / ${snapshot.max_attempts}` : ""}` : "–"],
      snapshot.timeout_sec ? [t("run.timeout"), duration(snapshot.timeout_sec)] : null,
      snapshot.retry_of ? [t("run.retry_of"), h("a", { class: "mono", href: href(["runs", snapshot.retry_of]) }, snapshot.retry_of)] : null,
      snapshot.tenant_id ? [t("run.tenant"), snapshot.tenant_id] : null,
      snapshot.wheels?.length ? [t("nav.wheels"), h("span", { class: "chips" }, snapshot.wheels.map((wheel) => h("span", { class: "chip", title: wheel.sha256 ?? wheel.sha256_hex ?? "" }, `${wheel.name} ${wheel.version}`)))] : null,
      snapshot.cancel_requested_at ? [t("run.cancel_asked"), [when(snapshot.cancel_requested_at), ` ${[snapshot.cancel_requested_by, snapshot.cancel_reason].filter(Boolean).join(" · ")}`]] : null,
    ];
    replace(facts, rows.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }

  function drawTrouble() {
    if (!snapshot.error) return replace(trouble);
    const failing = Object.entries(snapshot.task_records ?? {}).find(([, record]) => record.traceback);
    return replace(
      trouble,
      h("section", { class: "problem", role: "alert" },
        h("strong", {}, snapshot.reason ? word("reason", snapshot.reason) : t("run.error")), h("pre", {}, snapshot.error),
        failing ? h("details", {}, h("summary", {}, t("run.traceback", { task: failing[0] })), h("pre", {}, failing[1].traceback)) : null),
    );
  }

  function drawData() {
    const outputs = Object.fromEntries(Object.entries(snapshot.task_records ?? {}).map(([name, record]) => [name, record.output]));
    replace(
      data,
      h("h3", {}, t("run.params")), h("pre", { class: "code" }, json(snapshot.params)),
      h("h3", {}, t("run.outputs")),
      snapshot.task_records_truncated ? h("p", { class: "muted" }, t("run.truncated")) : h("pre", { class: "code" }, json(outputs)),
    );
  }

  function drawFiles() {
    const artifacts = Array.isArray(snapshot.artifacts) ? snapshot.artifacts : [];
    if (artifacts.length === 0) return replace(files, h("p", { class: "muted" }, t("run.files.none")));
    return replace(
      files,
      h("table", { class: "table" }, h("tbody", {}, artifacts.map((item) => h(
        "tr", {},
        h("td", {}, h("button", { type: "button", class: "quiet small", onclick: () => download(item.name) }, item.name)),
        h("td", { class: "right" }, bytes(item.size_bytes)),
        h("td", {}, h("code", { class: "muted", title: item.sha256_hex }, (item.sha256_hex ?? "").slice(0, 16))),
      )))),
    );
  }

  // A link could not send the key.
  async function download(name) {
    try {
      const blob = await (await call(`${base}/artifacts/${encodeURIComponent(name)}`)).blob();
      const link = h("a", { href: URL.createObjectURL(blob), download: name.split("/").pop() });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      tellError(error);
    }
  }

  function command() {
    return `pyoco-client --server ${location.origin} get ${runId} --records`;
  }

  async function cancel() {
    const reason = h("input", { type: "text", id: "cancel-reason", maxlength: 500 });
    const agreed = await confirm({
      title: t("run.cancel.title"),
      text: [h("p", {}, t("run.cancel.sure")), h("label", { class: "field", for: "cancel-reason" }, t("run.cancel.reason"), reason)],
      action: t("run.cancel"),
      danger: true,
    });
    if (!agreed) return;
    try {
      const answer = await send("POST", `${base}/cancel`, reason.value.trim() ? { reason: reason.value.trim() } : {});
      if (ended(answer.status)) tell(t("run.cancel.late", { status: word("state", answer.status) }));
    } catch (error) {
      tellError(error);
    }
  }

  async function retry() {
    try {
      const answer = await send("POST", `${base}/retry`);
      tell(t("run.retried"));
      go(["runs", answer.run_id]);
    } catch (error) {
      tellError(error);
    }
  }

  async function loadGraph() {
    try {
      const shape = await get(`${base}/graph`, {}, signal);
      graph = drawGraph(shape, (name) => { task = name; panels.show("task"); draw(); });
      replace(picture, graph.element);
    } catch (error) {
      if (signal.aborted) return;
      // A run of a worker's own flow has no picture before it has begun.
      replace(picture, h("p", { class: "muted" }, error.status === 404 && snapshot !== null ? t("run.graph.none") : error.message));
    }
    draw();
  }

  follow(`${base}/watch`, {
    query: { include: "records", timeout_sec: WATCH_SECONDS },
    signal,
    on: {
      state: setLive,
      event: (name, event) => {
        if (name !== "snapshot") return;
        const begun = snapshot !== null && Object.keys(snapshot.tasks ?? {}).length === 0 && Object.keys(event.snapshot.tasks ?? {}).length > 0;
        const worker = event.snapshot.worker_id !== snapshot?.worker_id;
        snapshot = { worker_state: worker ? undefined : snapshot?.worker_state, ...event.snapshot };
        draw();
        if (worker && snapshot.worker_id) lookAtWorker();
        if (begun && graph === null) loadGraph();
      },
      fail: (error) => replace(main, h("div", { class: "problem" }, error.message), h("p", {}, h("a", { href: "#/runs" }, t("nav.runs")))),
    },
  });
  loadGraph();

  async function lookAtWorker() {
    try {
      snapshot = { ...snapshot, worker_state: (await get(base, {}, signal)).worker_state };
      draw();
    } catch {
      // The badge beside the worker is all that is missing then.
    }
  }

  const clock = setInterval(() => { if (snapshot && !ended(snapshot.status)) draw(); }, 1000);
  signal.addEventListener("abort", () => clearInterval(clock));
}

const json = (value) => JSON.stringify(value ?? null, null, 2);

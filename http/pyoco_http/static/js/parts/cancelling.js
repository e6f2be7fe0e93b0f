// Asks before a run is cancelled, and says what will happen to it.

import { get, send } from "../api.js";
import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { confirm, tell, tellError } from "./feedback.js";
import { ended } from "./status.js";

const KILLED_AFTER_SECONDS = 2; // worker/executor.py: between SIGTERM and SIGKILL

/** Cancel a run when the user agrees; `base` is its path. */
export async function cancelRun(snapshot, base) {
  const reason = h("input", { type: "text", id: "cancel-reason", maxlength: 500 });
  const agreed = await confirm({
    title: t("run.cancel.title", { flow: snapshot.flow_name, run: snapshot.run_id.slice(0, 8) }),
    text: [
      (await consequences(snapshot)).map((text) => h("p", {}, text)),
      h("label", { class: "field", for: "cancel-reason" }, t("run.cancel.reason"), reason),
    ],
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

async function consequences({ status, worker_id: id, tasks = {} }) {
  if (status !== "RUNNING") return [t("run.cancel.waiting")];
  const states = Object.values(tasks);
  const done = states.filter((state) => state === "SUCCEEDED").length;
  const grace = await graceOf(id);
  const values = { worker: id ?? "–", grace: duration(grace), kill: duration(KILLED_AFTER_SECONDS) };
  return [t(grace === null ? "run.cancel.running" : "run.cancel.grace", values), t("run.cancel.tasks", { done, count: states.length })];
}

// Workers before 0.6 do not say how long they wait.
async function graceOf(id) {
  try {
    const workers = await get("/workers", { scope: "all", include_hidden: true, limit: 500 });
    return workers.find((worker) => worker.worker_id === id)?.cancel_grace_period_sec ?? null;
  } catch {
    return null;
  }
}

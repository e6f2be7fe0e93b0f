// Submits a run again with other params: the same flow, or the same flow.yaml, as a new run.

import { ApiError, send } from "../api.js";
import { h } from "../dom.js";
import { parse } from "../exact.js";
import { t } from "../i18n.js";
import { once } from "../once.js";
import { dialog, tell, tellError } from "./feedback.js";
import { LIMITS } from "./limits.js";
import { paramFields } from "./params.js";
import { workflowOf } from "./workflow.js";

/** Ask for the params and submit; resolves to the id of the new run, null when there is none. */
export async function runAgain(snapshot, base) {
  const fields = paramFields({ prefix: "again" });
  fields.show(snapshot.params ?? {});
  const tag = h("input", { type: "text", id: "again-tag", value: snapshot.tag ?? "", pattern: "[A-Za-z0-9_\\-]+" });
  const more = h("input", { type: "text", id: "again-more", placeholder: '{"name": 1}' });
  const label = (id, key, input) => h("label", { class: "field", for: id }, t(key), input);
  const answer = await dialog({
    title: t("again.title", { flow: snapshot.flow_name }),
    body: [h("p", { class: "muted" }, t("again.what")), fields.element, label("again-more", "again.more", more), label("again-tag", "runs.tag", tag)],
    buttons: [{ label: t("do.back"), value: "no", aside: true }, { label: t("again.run"), value: "yes", class: "primary" }],
  });
  if (answer !== "yes") return null;
  try {
    const params = { ...snapshot.params, ...fields.values(), ...further(more.value) };
    const limits = Object.fromEntries(LIMITS.filter((name) => snapshot[name] != null).map((name) => [name, snapshot[name]]));
    const wanted = tag.value.trim();
    // Those of the run, with the tag as it is now.
    const tags = snapshot.tags?.map((each) => (each === snapshot.tag ? wanted : each)).filter(Boolean);
    const text = snapshot.workflow_yaml_sha256 ? { workflow_yaml: await workflowOf(base) } : {};
    return await submitOne({ flow_name: snapshot.flow_name, ...(wanted ? { tag: wanted } : {}), tags, params, ...limits, ...text });
  } catch (error) {
    tellError(error);
    return null;
  }
}

function further(text) {
  if (text.trim() === "") return {};
  const found = parse(text, true);
  if (found === null || typeof found !== "object" || Array.isArray(found)) throw new Error(t("again.no_object"));
  return found;
}

/** Say that a run was submitted, and go there where that is given: `to` is what `going` gave before. */
export function submitted(runId, to = () => {}) {
  tell(t("runs.submitted", { run: runId.slice(0, 8) }));
  to(["runs", runId]);
}

/** Submit one run; its id. */
export function submitOne(run) {
  return once(run, async (key) => {
    const { items: [item] } = await send("POST", "/runs/batch", { runs: [{ ...run, idempotency_key: key }] });
    if (item.error) throw new ApiError(item.error.status, item.error);
    return item.run_id;
  });
}

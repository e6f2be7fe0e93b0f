// Moves the start of a run that waits for its time.

import { send } from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { dialog, tellError } from "./feedback.js";
import { local, unixOf } from "./range.js";

/** Ask when it shall start and tell the gateway; `base` is the path of the run. */
export async function moveRun(snapshot, base) {
  const at = h("input", { type: "datetime-local", id: "move-at", step: 1, value: local(snapshot.scheduled_for ?? null) });
  const answer = await dialog({
    title: t("move.title", { flow: snapshot.flow_name, run: snapshot.run_id.slice(0, 8) }),
    body: h("label", { class: "field", for: "move-at" }, t("move.at"), at),
    buttons: [{ label: t("do.back"), value: "no", aside: true }, { label: t("move.now"), value: "now", aside: true }, { label: t("move.do"), value: "yes", class: "primary" }],
  });
  if (answer !== "now" && (answer !== "yes" || at.value === "")) return;
  try {
    await send("PATCH", base, answer === "now" ? { delay_sec: 0 } : { start_at: unixOf(at.value) });
  } catch (error) {
    tellError(error);
  }
}

// A run's commands, to be copied to a terminal.

import { ROOT } from "../api.js";
import { h } from "../dom.js";
import { write } from "../exact.js";
import { t } from "../i18n.js";
import { copy, dialog } from "./feedback.js";
import { ended } from "./status.js";

/** Show the commands for a run, each with a button that copies it. */
export function showCommands(snapshot) {
  const list = Object.entries(commands(snapshot)).map(([key, text]) => [
    h("dt", {}, t(`command.${key}`)),
    h("dd", { class: "command" }, h("code", { class: "code" }, text),
      h("button", { type: "button", class: "small", "aria-label": `${t("do.copy")}: ${t(`command.${key}`)}`, onclick: () => copy(text) }, t("do.copy"))),
  ]);
  dialog({ title: t("run.commands"), body: h("dl", { class: "commands" }, list), buttons: [{ label: t("do.done") }] });
}

function commands(snapshot) {
  const client = `pyoco-client --server ${quoted(location.origin + ROOT)}`;
  const id = quoted(snapshot.run_id);
  const over = ended(snapshot.status);
  const found = { get: `${client} get ${id} --records`, logs: `${client} logs ${id}${over ? "" : " -f"}` };
  if (over) found.retry = `${client} retry ${id}`;
  else Object.assign(found, { watch: `${client} watch ${id} --until-terminal`, cancel: `${client} cancel ${id} --wait` });
  // The text of a flow.yaml is not in the snapshot.
  if (!snapshot.workflow_yaml_sha256) {
    const params = write(snapshot.params ?? {});
    const tag = snapshot.tag ? ` --tag ${quoted(snapshot.tag)}` : "";
    found.submit = `${client} submit --flow-name ${quoted(snapshot.flow_name)}${tag} --params ${quoted(params)}`;
  }
  return found;
}

// For a POSIX shell: whatever is in a name, it stays one word and runs nothing.
const quoted = (text) => (/^[A-Za-z0-9_./:@%+=-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", "'\\''")}'`);

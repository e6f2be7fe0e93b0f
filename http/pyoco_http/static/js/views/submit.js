// Submit a flow.yaml: paste or drop it, see its graph and its errors by line, fill its params, run it.

import { textOf } from "../api.js";
import { h, replace } from "../dom.js";
import { parse } from "../exact.js";
import { t } from "../i18n.js";
import { patiently } from "../page.js";
import { submitOne, submitted } from "../parts/again.js";
import { draft, forgetDraft, keepDraft } from "../parts/draft.js";
import { tellError } from "../parts/feedback.js";
import { drawGraph } from "../parts/graph.js";
import { limitFields } from "../parts/limits.js";
import { findingList } from "../parts/findings.js";
import { paramFields } from "../parts/params.js";
import { going } from "../router.js";

const TYPING_MS = 300;
const EXAMPLE = `version: 1
flow:
  graph: |
    add_one >> to_text
  defaults:
    x: 1
tasks:
  add_one:
    callable: pyoco_server._workflow_test_tasks:add_one
  to_text:
    callable: pyoco_server._workflow_test_tasks:to_text
`;

export function submitView(main, { signal, setLive }) {
  setLive("");
  const before = draft();
  let fileName = before.file ?? "";
  let checked = null; // what the gateway said of the text on the screen
  let timer;
  let checking = new AbortController();
  const gutter = h("div", { class: "gutter", "aria-hidden": "true" });
  const text = h("textarea", {
    id: "flow-text", spellcheck: "false", autocapitalize: "off", wrap: "off", value: before.text ?? EXAMPLE,
    "aria-describedby": "flow-verdict",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(check, TYPING_MS);
      verdictIsOut();
      numbers();
      keep();
    },
    onscroll: () => { gutter.scrollTop = text.scrollTop; },
  });
  const file = h("input", { type: "file", accept: ".yaml,.yml", id: "flow-file", class: "visually-hidden", onchange: () => { read(file.files[0]); file.value = ""; } });
  const editor = h("div", {
    class: "editor",
    ondragover: (event) => { event.preventDefault(); editor.classList.add("over"); },
    ondragleave: () => editor.classList.remove("over"),
    ondrop: (event) => { event.preventDefault(); editor.classList.remove("over"); read(event.dataTransfer.files[0]); },
  }, gutter, text);
  const verdict = h("div", { id: "flow-verdict", role: "status" });
  const picture = h("div", { class: "picture" });
  const params = paramFields({ before: before.params, given: before.given, changed: keep });
  const name = h("input", { type: "text", id: "flow-name", value: before.name ?? "main", required: true, oninput: keep });
  const tag = h("input", { type: "text", id: "flow-tag", value: before.tag ?? "", placeholder: "default", pattern: "[A-Za-z0-9_\\-]+", oninput: keep });
  const limits = limitFields({ before: before.limits, changed: keep });
  const opened = h("code", { class: "muted" }, fileName);
  const run = h("button", { class: "primary", disabled: true }, t("submit.run"));
  const label = (id, key, input) => h("label", { class: "field", for: id }, t(key), input);

  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.submit")), h("span", { class: "spacer" }),
      h("button", { type: "button", onclick: () => file.click() }, t("submit.open")), h("label", { class: "visually-hidden", for: "flow-file" }, t("submit.open"), file)),
    h("form", { class: "columns", onsubmit: (event) => { event.preventDefault(); submit(); } },
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, h("label", { for: "flow-text" }, "flow.yaml")), opened, h("span", { class: "muted" }, t("submit.drop"))),
        h("div", { class: "card-body" }, editor, verdict)),
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("submit.what"))),
        picture,
        h("div", { class: "card-body" },
          h("div", { class: "filters" }, label("flow-name", "runs.flow", name), label("flow-tag", "runs.tag", tag)),
          limits.element,
          h("h3", {}, t("run.params")), params.element),
        h("div", { class: "dialog-foot" }, run))),
  );

  function verdictIsOut() {
    checking.abort(); // what it says would be of another text
    checking = new AbortController();
    checked = null;
    run.disabled = true;
  }

  // Until it is submitted, also over other pages and a reload.
  function keep() {
    keepDraft({ text: text.value, file: fileName, name: name.value, tag: tag.value, params: params.typed(), given: params.given(), limits: limits.typed() });
  }

  function numbers(bad = null) {
    const count = text.value.split("\n").length;
    replace(gutter, Array.from({ length: count }, (_, index) => h("span", { class: index + 1 === bad ? "bad-line" : "" }, `${index + 1}\n`)));
    gutter.scrollTop = text.scrollTop;
  }

  async function read(chosen) {
    if (!chosen) return;
    text.value = await chosen.text();
    fileName = chosen.name;
    params.forget(); // they are of the run whose flow this was
    replace(opened, fileName);
    keep();
    check();
  }

  async function check() {
    verdictIsOut();
    const until = AbortSignal.any([signal, checking.signal]);
    const ask = () => textOf("/flows/check", { method: "POST", body: text.value, headers: { "Content-Type": "application/yaml" }, signal: until });
    try {
      const answer = parse(await patiently(ask, until, failed));
      checked = answer;
      numbers();
      const count = answer.graph.nodes.filter((node) => node.kind === "task").length;
      replace(verdict, h("p", { class: "muted" }, answer.unlisted.length ? t("submit.unlisted", { names: answer.unlisted.join(", ") }) : t("submit.good", { count })), findingList(answer.findings ?? [], jump));
      replace(picture, drawGraph(answer.graph).element);
      params.show(answer.defaults ?? {});
      run.disabled = false;
    } catch (error) {
      if (!until.aborted) failed(error);
    }
  }

  function failed(error) {
    const { line, column, findings = [] } = error.problem ?? {};
    numbers(line);
    replace(picture, h("p", { class: "card-body muted" }, t("submit.no_graph")));
    replace(verdict, findings.length > 0 ? findingList(findings, (at, place) => jump(at, at === line ? column ?? 1 : place)) : h("div", { class: "problem" },
      line ? h("button", { type: "button", class: "quiet small", onclick: () => jump(line, column ?? 1) }, t("submit.line", { line })) : null, " ",
      error.problem?.reason ?? error.message));
  }

  function jump(line, column) {
    const lines = text.value.split("\n");
    const at = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
    text.focus();
    text.setSelectionRange(at, at);
  }

  async function submit() {
    if (checked === null) return;
    run.disabled = true;
    const to = going();
    const sent = text.value;
    const where = { ...(tag.value.trim() ? { tag: tag.value.trim() } : {}), ...limits.values() };
    try {
      const runId = await submitOne({ flow_name: name.value.trim(), ...where, params: params.values(), workflow_yaml: sent });
      if (draft().text === sent) forgetDraft(); // not what was typed behind it
      submitted(runId, to);
    } catch (error) {
      tellError(error);
      run.disabled = false;
    }
  }

  numbers();
  check();
}

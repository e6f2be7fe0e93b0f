// Submit a flow.yaml: paste or drop it, see its graph and its errors by line, fill its params, run it.

import { call, send } from "../api.js";
import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { tellError } from "../parts/feedback.js";
import { drawGraph } from "../parts/graph.js";
import { go } from "../router.js";

const TYPING_MS = 300;
const KEPT = "pyoco.draft";
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

export function submitView(main, { signal }) {
  let checked = null; // what the gateway said of the text on the screen
  let timer;
  const gutter = h("div", { class: "gutter", "aria-hidden": "true" });
  const text = h("textarea", {
    id: "flow-text", spellcheck: false, autocapitalize: "off", value: sessionStorage.getItem(KEPT) ?? EXAMPLE,
    "aria-describedby": "flow-verdict",
    oninput: () => { clearTimeout(timer); timer = setTimeout(check, TYPING_MS); numbers(); },
    onscroll: () => { gutter.scrollTop = text.scrollTop; },
  });
  const file = h("input", { type: "file", accept: ".yaml,.yml", id: "flow-file", class: "visually-hidden", onchange: () => { read(file.files[0]); file.value = ""; } });
  const editor = h("div", {
    class: "editor",
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => { event.preventDefault(); read(event.dataTransfer.files[0]); },
  }, gutter, text);
  const verdict = h("div", { id: "flow-verdict", role: "status" });
  const picture = h("div", { class: "graph" });
  const params = h("div");
  const name = h("input", { type: "text", id: "flow-name", value: "main", required: true });
  const tag = h("input", { type: "text", id: "flow-tag", placeholder: "default", pattern: "[A-Za-z0-9_\\-]+" });
  const run = h("button", { class: "primary", disabled: true }, t("submit.run"));

  replace(
    main,
    h("div", { class: "view-head" }, h("h1", {}, t("nav.submit")), h("span", { class: "spacer" }),
      h("button", { type: "button", onclick: () => file.click() }, t("submit.open")), h("label", { class: "visually-hidden", for: "flow-file" }, t("submit.open")), file),
    h("form", { class: "columns", onsubmit: (event) => { event.preventDefault(); submit(); } },
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, h("label", { for: "flow-text" }, "flow.yaml"))), h("div", { class: "card-body" }, editor, verdict)),
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, t("submit.what"))),
        picture,
        h("div", { class: "card-body" },
          h("div", { class: "filters" },
            h("label", { class: "field", for: "flow-name" }, t("runs.flow"), name),
            h("label", { class: "field", for: "flow-tag" }, t("runs.tag"), tag)),
          h("h3", {}, t("run.params")), params),
        h("div", { class: "dialog-foot" }, run))),
  );

  function numbers(bad = null) {
    const count = text.value.split("\n").length;
    replace(gutter, Array.from({ length: count }, (_, index) => h("span", { class: index + 1 === bad ? "bad-line" : "" }, `${index + 1}\n`)));
  }

  async function read(chosen) {
    if (!chosen) return;
    text.value = await chosen.text();
    check();
  }

  async function check() {
    const value = text.value;
    sessionStorage.setItem(KEPT, value);
    try {
      const answer = await (await call("/flows/check", { method: "POST", body: value, headers: { "Content-Type": "application/yaml" }, signal })).json();
      if (text.value !== value) return;
      checked = answer;
      numbers();
      replace(verdict, h("p", { class: "muted" }, answer.unlisted?.length ? t("submit.unlisted", { names: answer.unlisted.join(", ") }) : t("submit.good", { count: answer.graph.nodes.filter((node) => node.kind === "task").length })));
      replace(picture, drawGraph(answer.graph, () => {}).element);
      fields(answer.defaults ?? {});
      run.disabled = false;
    } catch (error) {
      if (signal.aborted || text.value !== value) return;
      checked = null;
      run.disabled = true;
      const { line, column } = error.problem ?? {};
      numbers(line);
      replace(verdict, h("div", { class: "problem" }, line ? h("button", { type: "button", class: "quiet small", onclick: () => jump(line, column) }, t("submit.line", { line })) : null, error.message));
    }
  }

  function jump(line, column = 1) {
    const lines = text.value.split("\n");
    const at = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + (column ?? 1) - 1;
    text.focus();
    text.setSelectionRange(at, at);
  }

  // A field for each default: what is given there is JSON, or else a text.
  function fields(defaults) {
    const before = values();
    const names = Object.keys(defaults);
    replace(params, names.length === 0 ? h("p", { class: "muted" }, t("submit.no_params")) : names.map((key, index) => h("label", { class: "field", for: `param-${index}` }, key,
      h("input", { type: "text", id: `param-${index}`, dataset: { param: key, was: JSON.stringify(defaults[key]) }, value: key in before ? show(before[key]) : show(defaults[key]) }))));
  }

  function values() {
    return Object.fromEntries([...params.querySelectorAll("input")].filter((input) => input.value !== show(JSON.parse(input.dataset.was))).map((input) => [input.dataset.param, value(input.value)]));
  }

  async function submit() {
    if (checked === null) return;
    run.disabled = true;
    try {
      const answer = await send("POST", "/runs/batch", {
        runs: [{ flow_name: name.value.trim(), ...(tag.value.trim() ? { tag: tag.value.trim() } : {}), params: { ...checked.defaults, ...values() }, workflow_yaml: text.value }],
      });
      const [item] = answer.items;
      if (item.error) throw new Error([item.error.detail, item.error.reason].filter(Boolean).join(": "));
      go(["runs", item.run_id]);
    } catch (error) {
      tellError(error);
      run.disabled = false;
    }
  }

  numbers();
  check();
}

const show = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function value(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

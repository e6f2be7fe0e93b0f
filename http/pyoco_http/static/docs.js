// Makes the forms of /docs calls of this gateway, and shows what it answers.

const MOST = 100_000; // characters of an answer
const PATIENCE_MS = 10_000; // of an answer that goes on, such as a stream of events
const root = new URL(".", location.href);

for (const place of document.querySelectorAll(".address")) place.textContent = root.href;
// A link to an operation opens it.
function unfold() {
  const details = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.querySelector("details");
  if (details) details.open = true;
}
addEventListener("hashchange", unfold);
unfold();
for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

async function send(form) {
  const said = form.querySelector("output");
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const began = performance.now();
    const { path, options } = callOf(form);
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const answer = await fetch(new URL(path, root), { ...options, cache: "no-store", signal });
    const text = await read(answer);
    show(said, `HTTP ${answer.status} ${answer.statusText}, ${Math.round(performance.now() - began)} ms, ${answer.headers.get("content-type") ?? ""}`, text);
  } catch (error) {
    show(said, error.name === "TimeoutError" ? "no answer within 10 s" : String(error.message), "");
  } finally {
    button.disabled = false;
  }
}

function callOf(form) {
  const headers = {};
  const query = new URLSearchParams();
  const parts = new FormData();
  let { path } = form.dataset;
  let body;
  for (const field of form.elements) {
    const { name, value, files } = field;
    switch (field.dataset.in) {
      case "path": path = path.replace(`{${name}}`, encodeURIComponent(value)); break;
      case "query": if (value !== "") query.append(name, value); break;
      case "header": if (value !== "") headers[name] = value; break;
      case "form": if (files?.length) parts.append(name, files[0]); else if (files === null && value !== "") parts.append(name, value); body = parts; break;
      case "body": if (value.trim() !== "") { body = value; headers["Content-Type"] = field.dataset.kind; } break;
    }
  }
  const key = document.getElementById("key");
  if (key?.value) headers[key.dataset.header] = key.value;
  return { path: `${path.slice(1)}${query.size ? `?${query}` : ""}`, options: { method: form.dataset.method, headers, body } };
}

// As much as comes in time: a stream of events has no end.
async function read(answer) {
  let text = "";
  const decoder = new TextDecoder();
  const reader = answer.body?.getReader();
  try {
    while (reader && text.length < MOST) {
      const { done, value } = await reader.read();
      if (done) return pretty(text);
      text += decoder.decode(value, { stream: true });
    }
    await reader?.cancel();
  } catch (error) {
    if (error.name !== "TimeoutError") throw error;
  }
  return `${text.slice(0, MOST)}\n…`;
}

// Indented, with numbers as they are written.
function pretty(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  let depth = 0;
  return text.replace(/"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[[{]|[\]}]|,\s*|:\s*|\s+/g, (part) => {
    const line = () => `\n${" ".repeat(depth)}`;
    if (part[0] === '"' || /^[[{]\s*[\]}]$/.test(part)) return part;
    if (part === "[" || part === "{") { depth += 1; return part + line(); }
    if (part === "]" || part === "}") { depth -= 1; return line() + part; }
    if (part[0] === ",") return `,${line()}`;
    return part[0] === ":" ? ": " : "";
  });
}

function show(said, line, text) {
  const head = document.createElement("p");
  head.textContent = line;
  const body = document.createElement("pre");
  body.tabIndex = 0;
  body.textContent = text;
  said.replaceChildren(head, ...(text ? [body] : []));
}

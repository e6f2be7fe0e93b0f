// Words in the chosen language. Keys are checked by a test: both languages have all of them.

import en from "./lang/en.js";
import ja from "./lang/ja.js";

const LANGUAGES = { en, ja };
const STORED = "pyoco.lang";

function initial() {
  const stored = localStorage.getItem(STORED);
  if (stored in LANGUAGES) return stored;
  const configured = document.documentElement.dataset.lang;
  if (configured in LANGUAGES) return configured;
  return navigator.languages.some((name) => name.startsWith("ja")) ? "ja" : "en";
}

let language = initial();
document.documentElement.lang = language;

/** The language in use, "en" or "ja". */
export const lang = () => language;

/** Use a language from now on; the caller draws the page anew. */
export function setLang(name) {
  language = name;
  localStorage.setItem(STORED, name);
  document.documentElement.lang = name;
}

/** The text of a key, with {name} filled in; of {count:run|runs} the first for one, the second for all other numbers. */
export function t(key, values = {}) {
  const text = LANGUAGES[language][key] ?? en[key] ?? key;
  return text
    .replace(/\{(\w+):([^|}]*)\|([^}]*)\}/g, (_, name, one, more) => (Number(values[name]) === 1 ? one : more))
    .replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The word for a value of a closed list, such as a status; the value itself where there is none. */
export function word(kind, value) {
  const key = `${kind}.${value}`;
  const text = t(key);
  return text === key ? String(value) : text;
}

// JSON whose numbers stay as they are written: 9007199254740993 and 1.0 are 9007199254740992 and 1 to JavaScript.

// Below these keys stands what users wrote, or their code returned; everything else is for us to reckon with.
const OF_USERS = new Set(["params", "defaults", "inputs", "output", "value"]);
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
// Controls beyond ASCII, marks and overrides of direction, spaces without width, ends of lines that are no \n.
const UNSEEN = /[\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
// Chance makes it a text that stands in no answer.
const MARK = `number-${Array.from(crypto.getRandomValues(new Uint32Array(4)), (each) => each.toString(36)).join("")}:`;

/** A number that JavaScript would write in another way. */
export class Numeral {
  constructor(text) {
    this.text = text;
  }
}

/** Read JSON; with `exact` all of it is what a user wrote. */
export function parse(text, exact = false) {
  let marked = false;
  const safe = text.replace(TOKEN, (token) => {
    if (token.startsWith('"') || String(Number(token)) === token) return token;
    marked = true;
    return `"${MARK}${token}"`;
  });
  // What is no JSON is told in the words of the reader of the text itself.
  if (!marked) return JSON.parse(text);
  const read = (key, value) => (typeof value === "string" && value.startsWith(MARK) ? new Numeral(value.slice(MARK.length)) : value);
  return settled(JSON.parse(safe, read), exact);
}

function settled(value, exact) {
  if (value instanceof Numeral) return exact ? value : Number(value.text);
  if (value === null || typeof value !== "object") return value;
  for (const key of Object.keys(value)) value[key] = settled(value[key], exact || OF_USERS.has(key));
  return value;
}

/** Write JSON, in which nothing is hidden. */
export function write(value, indent) {
  const text = JSON.stringify(value, (key, each) => (each instanceof Numeral ? MARK + each.text : each), indent);
  return visible(text?.replaceAll(new RegExp(`"${MARK}([^"]*)"`, "g"), "$1"));
}

/** A text in which nothing is hidden: what turns its direction, or cannot be seen, is told as \u…. */
export function visible(text) {
  return text?.replaceAll(UNSEEN, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

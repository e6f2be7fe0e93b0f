// Colours of terminals, as programs print them: SGR codes become styles, all other sequences nothing.

import { h } from "../dom.js";

// CSI … letter, OSC … (BEL or ST), other two-character ones.
const SEQUENCE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_`-~])/g;
// What else moves a terminal's cursor or rings its bell.
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;
const LEVELS = [0, 95, 135, 175, 215, 255];

/** The parts [{text, style}] of a text, and the style that goes on behind it. */
export function ansi(text, style = {}) {
  const parts = [];
  let now = style;
  let from = 0;
  const take = (until) => {
    const plain = text.slice(from, until).replaceAll(CONTROLS, "");
    if (plain) parts.push({ text: plain, style: now });
  };
  for (const match of text.matchAll(SEQUENCE)) {
    take(match.index);
    from = match.index + match[0].length;
    if (match[2] === "m") now = changed(now, match[1]);
  }
  take(text.length);
  return { parts, style: now };
}

/** A part as an element, or as a text where it has no style. */
export function styled({ text, style }) {
  if (Object.keys(style).length === 0) return text;
  const named = ([name, value]) => (value === true ? `ansi-${name}` : `ansi-${name}-${value}`);
  const element = h("span", { class: Object.entries(style).filter(([, value]) => !Array.isArray(value)).map(named).join(" ") }, text);
  for (const [name, value] of Object.entries(style)) {
    if (Array.isArray(value)) element.style[name === "fg" ? "color" : "backgroundColor"] = `rgb(${value.join(" ")})`;
  }
  return element;
}

function changed(style, codes) {
  let next = { ...style };
  const numbers = codes.split(/[;:]/).map(Number);
  const without = (...names) => names.forEach((name) => delete next[name]);
  while (numbers.length > 0) {
    const code = numbers.shift();
    if (code === 0) next = {};
    else if (code === 1) next.bold = true;
    else if (code === 2) next.faint = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 9) next.struck = true;
    else if (code === 22) without("bold", "faint");
    else if (code === 23) without("italic");
    else if (code === 24) without("underline");
    else if (code === 29) without("struck");
    else if (code === 39) without("fg");
    else if (code === 49) without("bg");
    else if (code === 38 || code === 48) {
      const colour = extended(numbers);
      if (colour !== null) next[code === 38 ? "fg" : "bg"] = colour;
    } else if (code >= 30 && code <= 37) next.fg = code - 30;
    else if (code >= 40 && code <= 47) next.bg = code - 40;
    else if (code >= 90 && code <= 97) next.fg = code - 90;
    else if (code >= 100 && code <= 107) next.bg = code - 100;
  }
  return next;
}

// 5;n of 256 colours, or 2;r;g;b; takes its numbers off.
function extended(numbers) {
  const kind = numbers.shift();
  if (kind === 2) {
    const colour = numbers.splice(0, 3);
    return colour.length === 3 && colour.every((each) => each >= 0 && each <= 255) ? colour : null;
  }
  if (kind !== 5) return null;
  const n = numbers.shift();
  if (!(n >= 0 && n <= 255)) return null;
  if (n < 16) return n % 8;
  if (n >= 232) return Array(3).fill(8 + 10 * (n - 232));
  return [Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map((level) => LEVELS[level]);
}

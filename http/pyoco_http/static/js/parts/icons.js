// The signs of the navigation, drawn here so that nothing is fetched.

import { s } from "../dom.js";

const PATHS = {
  runs: "M4 6h16M4 12h16M4 18h10",
  submit: "M12 16V4m0 0-5 5m5-5 5 5M4 20h16",
  schedules: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 4v5l3.5 2",
  workers: "M4 5h16v6H4zM4 14h16v5H4zM8 8h.01M8 16.5h.01",
  wheels: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 6a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 3v6m0 6v6M3 12h6m6 0h6",
  dlq: "M4 6h16v12H4zM4 7l8 6 8-6",
  system: "M12 4v5m0 0H6v5m6-5h6v5M4 14h4v5H4zm12 0h4v5h-4zM10 4h4",
};

/** The sign of a view. */
export function icon(name) {
  return s(
    "svg",
    { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" },
    s("path", { d: PATHS[name] }),
  );
}

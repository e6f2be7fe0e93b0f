// Light or dark: what the user chose here, else what the system says.

const STORED = "pyoco.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function apply() {
  const chosen = localStorage.getItem(STORED);
  document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
}

/** Follow the system and the user's choice. */
export function startTheme() {
  system.addEventListener("change", apply);
  apply();
}

/** The theme in use, "light" or "dark". */
export const theme = () => document.documentElement.dataset.theme;

/** Change to the other theme and remember it. */
export function switchTheme() {
  localStorage.setItem(STORED, theme() === "dark" ? "light" : "dark");
  apply();
}

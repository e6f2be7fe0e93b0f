// The view and its filters live in the URL behind "#", so that a link shows another person the same.

/** What the URL names: {path: ["runs", "<id>"], query: URLSearchParams}. */
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { path: parts.length ? parts : ["runs"], query: new URLSearchParams(query) };
}

/** A link to a place. */
export function href(path, query = {}) {
  const text = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined),
  ).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Go to a place. */
export function go(path, query) {
  location.hash = href(path, query);
}

let gone = 0; // how often another place was gone to
addEventListener("hashchange", () => { gone += 1; });

/** Begin what is to end at a place: a `go` that does nothing where the user has gone to another one by then. */
export function going() {
  const begun = gone;
  return (path, query) => { if (gone === begun) go(path, query); };
}

/** Change the query of this place without a new entry in the history. */
export function setQuery(query) {
  history.replaceState(null, "", href(place().path, query));
}

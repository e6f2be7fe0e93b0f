// Reads CSV (RFC 4180) and TSV.

/** The first `most` rows of a text as lists of texts; `complete`: whether these are all. */
export function readCsv(text, separator, most) {
  const rows = [];
  let row = [];
  let field = "";
  let quoted = false;
  const endRow = () => {
    rows.push([...row, field]);
    row = [];
    field = "";
  };
  for (let at = text.startsWith("\ufeff") ? 1 : 0; at < text.length; at += 1) {
    if (rows.length === most) return { rows, complete: false };
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') field += letter;
      else if (text[at + 1] === '"') {
        field += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"' && field === "") quoted = true;
    else if (letter === separator) {
      row.push(field);
      field = "";
    } else if (letter === "\n" || letter === "\r") {
      if (letter === "\r" && text[at + 1] === "\n") at += 1;
      endRow();
    } else field += letter;
  }
  if (field !== "" || row.length > 0) endRow();
  return { rows, complete: true };
}

// How far the gateway was when it answered last, sent along so that no other gateway answers with less.

const HEADER = "X-Pyoco-Seen";
let seen = "";

/** The header to send; none before the first answer. */
export const seenHeaders = () => (seen ? { [HEADER]: seen } : {});

/** Take notice of an answer; `told(header)` reads its headers. One that is older than what is known changes nothing. */
export function noteSeen(told) {
  const token = told(HEADER);
  if (!token) return;
  const [[bucket, seq], [knownBucket, known]] = [split(token), split(seen)];
  if (bucket !== knownBucket || !(seq < known)) seen = token;
}

function split(token) {
  const dash = token.indexOf("-");
  return [token.slice(0, dash), Number(token.slice(dash + 1))];
}

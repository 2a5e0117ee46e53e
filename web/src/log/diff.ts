/** A piece of two texts: in both, only in the one before, or only in the one after. */
export interface Piece {
  kind: "same" | "del" | "ins";
  text: string;
}

const MOST_STEPS = 250_000;
/** Steps of a comparison that a browser makes within some milliseconds. Longer texts are shown as replaced. */

const words = new Intl.Segmenter(undefined, { granularity: "word" });

/** Compare two texts word by word, by their longest common subsequence. */
export function diffWords(before: string, after: string): Piece[] {
  const [old, now] = [before, after].map((text) => Array.from(words.segment(text), (each) => each.segment)) as [
    string[],
    string[],
  ];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < Math.min(old.length, now.length) - start && old.at(-1 - end) === now.at(-1 - end)) end++;
  const middle = between(old.slice(start, old.length - end), now.slice(start, now.length - end));
  const around = (kind: Piece["kind"], segments: string[]): Piece => ({ kind, text: segments.join("") });
  return joined([around("same", old.slice(0, start)), ...middle, around("same", old.slice(old.length - end))]);
}

function between(old: string[], now: string[]): Piece[] {
  if (old.length * now.length > MOST_STEPS) {
    return [
      { kind: "del", text: old.join("") },
      { kind: "ins", text: now.join("") },
    ];
  }
  const width = now.length + 1;
  const common = new Uint32Array((old.length + 1) * width); // lengths, of what begins at each pair of places
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      const [down, right] = [common[(i + 1) * width + j]!, common[i * width + j + 1]!];
      common[i * width + j] = old[i] === now[j] ? common[(i + 1) * width + j + 1]! + 1 : Math.max(down, right);
    }
  }
  const pieces: Piece[] = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      pieces.push({ kind: "same", text: old[i++]! });
      j++;
    } else if (j >= now.length || (i < old.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!)) {
      pieces.push({ kind: "del", text: old[i++]! });
    } else pieces.push({ kind: "ins", text: now[j++]! });
  }
  return pieces;
}

/** Put pieces of one kind together. A space alone between two changes goes with them, so that phrases stay whole. */
function joined(pieces: Piece[]): Piece[] {
  const result: Piece[] = [];
  let [del, ins] = ["", ""];
  const changed = () => {
    if (del) result.push({ kind: "del", text: del });
    if (ins) result.push({ kind: "ins", text: ins });
    [del, ins] = ["", ""];
  };
  pieces.forEach(({ kind, text }, index) => {
    const next = pieces[index + 1];
    if (kind === "del") del += text;
    else if (kind === "ins") ins += text;
    else if (del && ins && /^\s+$/.test(text) && next && next.kind !== "same") {
      del += text;
      ins += text;
    } else {
      if (text) changed();
      const last = result.at(-1);
      if (last?.kind === "same") last.text += text;
      else if (text) result.push({ kind, text });
    }
  });
  changed();
  return result;
}

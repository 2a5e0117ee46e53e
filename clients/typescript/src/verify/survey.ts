import type { Json } from "./digest.js";
import { fits, NUMBER, parse } from "./lines.js";

/** The lines of an export. `numbers` has the event number of each, 0 if none can be read; `order` the lines that
 * aren't blank, in the log's order; `cutOff` says that the last line has no end and isn't JSON. */
export interface Lines {
  numbers: number[];
  order: number[];
  cutOff: boolean;
  /** Return a line by its number, from 1. */
  line(number: number): Uint8Array;
}

/** Make the first pass, which finds the event numbers and the order. */
export function survey(log: Uint8Array): Lines {
  const lines = split(log);
  const numbers = lines.map(seqOf);
  const order = lines.flatMap((line, index) => (isBlank(line) ? [] : [index + 1]));
  if (isNewestFirst(numbers.filter(Boolean))) order.reverse();
  const last = lines.at(-1);
  const ended = !last || log.at(-1) === LINE_FEED || isBlank(last);
  return { numbers, order, cutOff: !ended && !parse(last), line: (number) => lines[number - 1]! };
}

const LINE_FEED = 10;

function split(log: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  let start = log.subarray(0, 3).join() === "239,187,191" ? 3 : 0; // a byte order mark
  for (let end = log.indexOf(LINE_FEED, start); end !== -1; end = log.indexOf(LINE_FEED, start)) {
    lines.push(log.subarray(start, end));
    start = end + 1;
  }
  if (start < log.length) lines.push(log.subarray(start));
  return lines;
}

function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => byte === 32 || (byte >= 9 && byte <= 13));
}

function seqOf(line: Uint8Array): number {
  const first = /^\{"seq":([1-9]\d{0,14}),/.exec(String.fromCharCode(...line.subarray(0, 32))); // as it is written
  const seq = first ? Number(first[1]) : (parse(line)?.value as Json | null | undefined)?.seq;
  return fits(NUMBER, seq) ? (seq as number) : 0;
}

/** Say if most steps from line to line go down; on a tie, most steps to an adjacent number, then the two ends. So no
 * single event that is missing or out of place makes an export look reversed. */
function isNewestFirst(seqs: number[]): boolean {
  let [steps, near, way] = [0, 0, 0];
  for (let index = 1; index < seqs.length; index++) {
    const step = seqs[index]! - seqs[index - 1]!;
    steps += Math.sign(step);
    near += Math.abs(step) === 1 ? step : 0;
    way += step;
  }
  return (steps || near || way) < 0;
}

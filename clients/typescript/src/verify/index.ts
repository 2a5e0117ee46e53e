import { Chain, type Head } from "./chain.js";
import { changesOf } from "./changes.js";
import { canonical } from "./digest.js";
import { type BadLine, isHash, isMoment, isNumber, type Line, readLine } from "./lines.js";
import { CannotVerify, mismatch, type Mismatch } from "./mismatch.js";
import { type Lines, survey } from "./survey.js";

export { CannotVerify, type Kind, type Mismatch } from "./mismatch.js";

export interface VerifyOptions {
  /** A head that was kept: shows that nothing up to it was rewritten, and that the last events weren't removed. */
  head?: Head | undefined;
  /** The head that the export goes on from, if it isn't the whole log. */
  after?: Head | undefined;
  /** Called after each event that fits, with how many do so far. */
  onEvent?: ((events: number) => void) | undefined;
}

/** The events that fit together, up to the mismatch or the end. `hash` is the last one's. */
export interface Report {
  clean: boolean;
  user_id: string | null;
  events: number;
  first: number | null;
  last: number | null;
  hash: string;
  /** The number of the kept head's event; null if none was given. */
  head: number | null;
  mismatch: Mismatch | null;
}

/** Verify an export of the log (NDJSON, in any order), as `daybook verify --export` does. Throw `CannotVerify`. */
export async function verify(log: string | Uint8Array, { head, after, onEvent }: VerifyOptions = {}): Promise<Report> {
  for (const kept of [head, after]) if (kept && !isHead(kept)) throw new CannotVerify("bad-head", "It is no head.");
  if (head && after && head.seq < after.seq) {
    throw new CannotVerify("earlier-head", "The head is older than the one that the export goes on from.");
  }
  const lines = survey(typeof log === "string" ? new TextEncoder().encode(log) : log);
  const chain = new Chain(after, lines.numbers);
  if (head && after && head.seq === after.seq && (head.hash !== after.hash || head.at !== after.at)) {
    return report(chain, head, rewritten(head.seq, "the two heads differ (or one was changed)"));
  }
  if (lines.order.length && lines.numbers.every((seq) => !seq)) throw notAnExport("none of its lines is an event");
  let unknown: CannotVerify | undefined;
  for (const line of lines.order) {
    const event = await readLine(line, lines.line(line));
    if ("fault" in event) return report(chain, head, { ...(await completed(event, chain, lines)), line });
    const found = await misfit(event, chain, head).catch((error: unknown) => {
      if (!(error instanceof CannotVerify)) throw error;
      unknown ??= new CannotVerify(error.reason, `event ${event.seq} (line ${line}): ${error.message}`);
      return undefined;
    });
    if (found) return report(chain, head, { ...found, line });
    chain.advance(event.seq, event.hash);
    onEvent?.(chain.events);
  }
  const missing = head && chain.end(head);
  if (!missing && unknown) throw unknown;
  if (!missing && !chain.events && !head) throw new CannotVerify("empty", "It has no events.");
  return report(chain, head, missing);
}

function report(chain: Chain, head: Head | undefined, found: Mismatch | undefined): Report {
  const events = found?.kind === "rewritten" ? 0 : chain.events; // nobody knows where it began
  return {
    clean: !found,
    user_id: chain.userId || null,
    events,
    first: events ? chain.seq - events + 1 : null,
    last: events ? chain.seq : null,
    hash: events ? chain.hash : "",
    head: head?.seq ?? null,
    mismatch: found ?? null,
  };
}

/** Check an event. Throw if nothing is wrong with it, but this release can't read it. */
async function misfit(event: Line, chain: Chain, head: Head | undefined): Promise<Mismatch | undefined> {
  const { seq, record } = event;
  if (!chain.events) chain.userId = record.user_id as string;
  if (record.user_id !== chain.userId) {
    const message = `event ${seq} was changed: it is of another user than those before`;
    return mismatch("changed", seq, message, "user_id");
  }
  const found = await chain.check(seq, event.digest, event.hash);
  if (found) return found;
  if (seq === head?.seq && event.hash !== head.hash) {
    return rewritten(seq, "the head that was kept has another hash (or is of another log)");
  }
  if (seq === head?.seq && record.at !== head.at) {
    const message = `the head was changed: it has event ${seq}'s hash, and another time`;
    return mismatch("changed", seq, message, "at");
  }
  const shown = canonical(changesOf(record.type as string, record.data as Line["record"]));
  if (String(shown) === String(canonical(record.changes))) return undefined;
  const message = `event ${seq} was changed: \`changes\` doesn't follow from \`data\``;
  return mismatch("changed", seq, message, "changes");
}

/** Complete the mismatch of a line that no export has. If its event is out of place too, tell that instead. */
async function completed(bad: BadLine, chain: Chain, lines: Lines): Promise<Mismatch> {
  const { line, field, seq } = bad;
  const due = chain.seq + 1;
  if (field === "user_id" && !chain.events && !(await hasAnEvent(lines))) {
    throw notAnExport("its events are those of a page of /audit, without what they were hashed with");
  }
  if (bad.kind === "unreadable") {
    if (lines.cutOff && line === lines.numbers.length) {
      throw new CannotVerify("cut-off", "Its last line is cut off: export it again.");
    }
    return mismatch("unreadable", seq, bad.fault);
  }
  if (seq === null && chain.numbers.includes(due)) {
    return mismatch("added", null, `the line was added: event ${due} is on another one`, field);
  }
  const misplaced = seq !== null && seq !== due && (await chain.check(seq, undefined, ""));
  if (misplaced) return misplaced;
  return mismatch("changed", due, `event ${due} was changed: ${bad.fault}`, field);
}

async function hasAnEvent(lines: Lines): Promise<boolean> {
  for (const line of lines.order) if (!("fault" in (await readLine(line, lines.line(line))))) return true;
  return false;
}

function rewritten(seq: number, why: string): Mismatch {
  return mismatch("rewritten", seq, `the log was rewritten, at event ${seq} or before: ${why}`);
}

function notAnExport(why: string): CannotVerify {
  return new CannotVerify("not-an-export", `It is no export: ${why}. Export the log with format=ndjson.`);
}

function isHead({ seq, hash, at }: Head): boolean {
  return (seq === 0 && hash === "" && at === null) || (isNumber(seq) && isHash(hash) && isMoment(at));
}

import { Chain, type Head } from "./chain.js";
import { changesOf } from "./changes.js";
import { encode, type Json, written } from "./digest.js";
import { fits, HASH, type Line, MOMENT, NUMBER, readLine } from "./lines.js";
import { CannotVerify, changed, mismatch, type Mismatch } from "./mismatch.js";
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
    throw new CannotVerify("earlier-head", "The head is older than `after`.");
  }
  const lines = survey(typeof log === "string" ? encode(log) : log);
  const chain = new Chain(after, lines.numbers);
  if (head && after && head.seq === after.seq && (head.hash !== after.hash || head.at !== after.at)) {
    return report(chain, head, rewritten(head.seq, "the two heads differ (or one was changed)"));
  }
  if (lines.order.length && lines.numbers.every((seq) => !seq)) throw notAnExport("no line is an event");
  let unknown: CannotVerify | undefined;
  for (const line of lines.order) {
    const event = await readLine(lines.line(line));
    if ("kind" in event) return report(chain, head, { ...(await completed(event, line, chain, lines)), line });
    const { seq, hash } = event.record;
    const found = await misfit(event, chain, head).catch((error: unknown) => {
      if (!(error instanceof CannotVerify)) throw error;
      unknown ??= new CannotVerify(error.reason, `event ${seq} (line ${line}): ${error.message}`);
      return undefined;
    });
    if (found) return report(chain, head, { ...found, line });
    chain.advance(seq, hash);
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
  const { record, digest } = event;
  const { seq, hash } = record;
  if (!chain.events) chain.userId = record.user_id;
  if (record.user_id !== chain.userId) {
    return changed(seq, "it is of another user than those before", "user_id");
  }
  const found = await chain.check(seq, digest, hash);
  if (found) return found;
  if (seq === head?.seq && hash !== head.hash) {
    return rewritten(seq, "the head that was kept has another hash (or is of another log)");
  }
  if (seq === head?.seq && record.at !== head.at) {
    const message = `the head was changed: it has event ${seq}'s hash, and another time`;
    return mismatch("changed", seq, message, "at");
  }
  return record.erased ? undefined : underived(seq, record);
}

/** Find what is shown of an event and doesn't follow from what was hashed. */
function underived(seq: number, record: Json): Mismatch | undefined {
  const data = record.data as Json;
  const shown: Json = { changes: changesOf(record.type as string, data), reason: data.reason ?? null };
  const name = Object.keys(shown).find((each) => each in record && written(shown[each]) !== written(record[each]));
  return name ? changed(seq, `\`${name}\` doesn't follow from \`data\``, name) : undefined;
}

/** Complete the mismatch of a line that no export has. If its event is out of place too, tell that instead. */
async function completed(bad: Mismatch, line: number, chain: Chain, lines: Lines): Promise<Mismatch> {
  const { field, seq, message } = bad;
  const due = chain.seq + 1;
  if (field === "user_id" && !chain.events && !(await hasAnEvent(lines))) {
    throw notAnExport("it is a page of /audit");
  }
  if (bad.kind === "unreadable") {
    if (lines.cutOff && line === lines.numbers.length) {
      throw new CannotVerify("cut-off", "Its last line is cut off.");
    }
    return bad;
  }
  if (seq === null && chain.numbers.includes(due)) {
    return mismatch("added", null, `the line was added: event ${due} is on another one`, field);
  }
  const misplaced = seq !== null && seq !== due && (await chain.check(seq, undefined, ""));
  if (misplaced) return misplaced;
  return changed(due, message, field);
}

async function hasAnEvent(lines: Lines): Promise<boolean> {
  for (const line of lines.order) if ("record" in (await readLine(lines.line(line)))) return true;
  return false;
}

function rewritten(seq: number, why: string): Mismatch {
  return mismatch("rewritten", seq, `the log was rewritten, at event ${seq} or before: ${why}`);
}

function notAnExport(why: string): CannotVerify {
  return new CannotVerify("not-an-export", `It is no export: ${why}. Export the log with format=ndjson.`);
}

function isHead({ seq, hash, at }: Head): boolean {
  return (seq === 0 && hash === "" && at === null) || (fits(NUMBER, seq) && fits(HASH, hash) && fits(MOMENT, at));
}

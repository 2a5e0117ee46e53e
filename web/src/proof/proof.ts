import { signal } from "@preact/signals";
import type { AuditEvent, Daybook, Head, Report } from "daybook-client";
import { download } from "../log/download";
import { messageOf } from "../model/store";
import { type KeptHead, KeptHeads } from "./heads";
import { prove } from "./prove";

/** How far a check has come. */
export type State =
  | { step: "idle" }
  | { step: "reading" | "checking"; done: number; all: number }
  | { step: "fits"; head: Head; kept: KeptHead | undefined; events: number; first: boolean }
  | { step: "empty" }
  | { step: "broken"; report: Report; kept: KeptHead | undefined; event: AuditEvent | undefined }
  | { step: "failed"; message: string };

export type Proof = ReturnType<typeof createProof>;

/** Make the check of one user's whole log against the head that this browser has kept last. */
export function createProof(daybook: Daybook, heads = new KeptHeads(daybook.userId)) {
  const state = signal<State>({ step: "idle" });

  async function run(signal: AbortSignal): Promise<void> {
    if (!globalThis.crypto?.subtle) {
      const message = "The browser only computes hashes on pages that come over https, or from this machine itself.";
      state.value = { step: "failed", message };
      return;
    }
    try {
      state.value = await check(signal);
    } catch (error) {
      if (!signal.aborted) state.value = { step: "failed", message: messageOf(error) };
    }
  }

  async function check(signal: AbortSignal): Promise<State> {
    const all = (await daybook.getHead({ signal })).seq;
    const kept = heads.list()[0];
    if (!all && !kept) return { step: "empty" };
    const read = (done: number) => (state.value = { step: "reading", done: Math.min(done, all), all });
    read(0);
    const log = await download(daybook, { format: "ndjson", order: "asc" }, { progress: read, signal });
    const last = lastLine(log);
    const progress = (done: number) => (state.value = { step: "checking", done, all: Math.max(done, all) });
    progress(0);
    const report = await prove(log, kept, progress, signal);
    if (!report.clean) return { step: "broken", report, kept, event: await eventOf(report, signal) };
    const head: Head = { seq: report.last ?? 0, hash: report.hash, at: last?.at ?? null };
    heads.keep(head);
    return { step: "fits", head, kept, events: report.events, first: !kept };
  }

  /** Read what the log has now in the place of the event that doesn't fit. */
  async function eventOf({ mismatch }: Report, signal: AbortSignal): Promise<AuditEvent | undefined> {
    if (!mismatch?.seq) return undefined;
    const around = { after: mismatch.seq - 1, before: mismatch.seq + 1, limit: 1 };
    return (await daybook.listEvents(around, { signal })).items[0];
  }

  return { state, heads, run };
}

/** Return the time of an export's last event; the head that is kept has it. */
function lastLine(log: Uint8Array): { at: string } | null {
  const end = log.length - 1; // the last line ends with a line feed
  if (end < 1) return null;
  const begin = log.lastIndexOf(10, end - 1) + 1;
  try {
    return JSON.parse(new TextDecoder().decode(log.subarray(begin, end))) as { at: string };
  } catch {
    return null; // a damaged line: the check will name it
  }
}

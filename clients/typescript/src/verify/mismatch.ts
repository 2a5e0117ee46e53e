/** A kind of damage (docs/guides/audit.md). `rewritten`: the hash isn't a kept head's. `unreadable`: it is no event. */
export type Kind = "changed" | "removed" | "added" | "reordered" | "rewritten" | "unreadable";

/** The first thing that doesn't fit. `seq` and `field` are null if it isn't about one. */
export interface Mismatch {
  kind: Kind;
  seq: number | null;
  /** The line in the export, from 1; null if something is missing after the end. */
  line: number | null;
  field: string | null;
  message: string;
}

/** The export can't be called clean, and no mismatch was found either. */
export class CannotVerify extends Error {
  override readonly name = "CannotVerify";

  constructor(
    readonly reason: "not-an-export" | "empty" | "cut-off" | "earlier-head" | "bad-head" | "unknown-event",
    message: string,
  ) {
    super(message);
  }
}

/** Make the mismatch of an event that isn't as it was written. */
export function changed(seq: number, why: string, field: string | null): Mismatch {
  return mismatch("changed", seq, `event ${seq} was changed: ${why}`, field);
}

export function mismatch(kind: Kind, seq: number | null, message: string, field: string | null = null): Mismatch {
  return { kind, seq, line: null, field, message };
}

import { bytesToHex } from "../hex.js";
import { hexToBytes, sha256 } from "./digest.js";
import { changed, mismatch, type Mismatch } from "./mismatch.js";

export interface Head {
  seq: number;
  hash: string;
  at: string | null;
}

/** Follows a user's log, event by event. `seq` and `hash` are those of the event that the next one must follow. */
export class Chain {
  userId = "";
  events = 0;
  seq: number;
  hash: string;

  /** `numbers` are those of all lines to come; 0 for a line with none. */
  constructor(
    start: Head | undefined,
    readonly numbers: readonly number[],
  ) {
    this.seq = start?.seq ?? 0;
    this.hash = start?.hash ?? "";
  }

  /** Check that an event follows on the last one. `digest` is undefined if it can't be computed. */
  async check(seq: number, digest: Uint8Array | undefined, hash: string): Promise<Mismatch | undefined> {
    const due = this.seq + 1;
    const follows = digest && bytesToHex(await sha256(hexToBytes(this.hash), digest)) === hash;
    if (seq !== due) return follows ? changed(due, `it is numbered ${seq}`, "seq") : this.#misplaced(seq, due);
    return follows ? undefined : changed(seq, "its hash doesn't follow from its content and the hash before", "hash");
  }

  /** Go on from this event, whether it was right or not. */
  advance(seq: number, hash: string): void {
    this.events += 1;
    if (seq > this.seq) [this.seq, this.hash] = [seq, hash];
  }

  /** Check that the events reach up to the head. */
  end(head: Head): Mismatch | undefined {
    return head.seq > this.seq ? this.#missing(head.seq, `the head is event ${head.seq}`) : undefined;
  }

  #misplaced(seq: number, due: number): Mismatch {
    if (seq < due) return mismatch("added", seq, `event ${seq} was added: it comes after event ${due - 1}`, "seq");
    if (!this.numbers.includes(due)) {
      const following = this.numbers.reduce((least, each) => (each > due && each < least ? each : least), seq);
      return this.#missing(following - 1, `event ${seq} comes next`);
    }
    return this.numbers.filter((each) => each === seq).length > 1
      ? mismatch("added", seq, `event ${seq} was added: there are two of it`, "seq")
      : mismatch("reordered", seq, `event ${seq} is out of order: event ${due} comes later`, "seq");
  }

  #missing(last: number, why: string): Mismatch {
    const first = this.seq + 1;
    const which = first === last ? `event ${first} is` : `events ${first} to ${last} are`;
    return mismatch("removed", first, `${which} missing: ${why}`, "seq");
  }
}

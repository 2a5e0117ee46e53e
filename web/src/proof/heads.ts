import type { Head } from "daybook-client";

/** A head that this browser keeps, with the time at which it was kept. */
export interface KeptHead extends Head {
  kept: string;
}

const MOST = 20;

/** The heads that a browser keeps of a user's log. They are what shows that the log wasn't rewritten since. */
export class KeptHeads {
  readonly #name: string;

  constructor(
    userId: string,
    readonly storage: Pick<Storage, "getItem" | "setItem"> = localStorage,
  ) {
    this.#name = `daybook.heads.${userId}`;
  }

  /** Return the heads, the newest first. */
  list(): KeptHead[] {
    const written = this.storage.getItem(this.#name);
    return written ? (JSON.parse(written) as KeptHead[]) : [];
  }

  /** Keep a head that was proved, unless it is the newest one already. */
  keep({ seq, hash, at }: Head, now = new Date()): void {
    const heads = this.list();
    if (heads[0]?.seq === seq && heads[0].hash === hash) return;
    const all = [{ seq, hash, at, kept: now.toISOString() }, ...heads];
    this.storage.setItem(this.#name, JSON.stringify(all.slice(0, MOST)));
  }
}

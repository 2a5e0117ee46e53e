import { type Daybook, DaybookError, isRefusal, newKey, type Task } from "daybook-client";
import type { Change, Waiting } from "./changes";

/** What became of a change: the task after it (null if it is gone), and its event's number (null if there is none). */
export interface Made {
  task: Task | null;
  seq: number | null;
  /** The version of the task after it. */
  version: number;
}

export interface OutboxEvents {
  /** Called whenever what waits has changed. */
  changed(waiting: readonly Waiting[]): void;
  made(waiting: Waiting, made: Made): void;
  /** Called for a change that Daybook has refused, with what was to follow on it. None of it waits any more. */
  refused(chain: readonly Waiting[], error: unknown): void;
  /** Called with the reason why the first change can't be sent just now, and with null once it needn't wait for it. */
  held(error: unknown): void;
}

/** Sends changes in the order in which they were made, each with the version that the user saw.
 *
 * Invariant: a change leaves the list only when Daybook itself has answered it, or the user gives it up. So none is lost
 * or made twice by a connection that ends, the page of a proxy, a failure of the service, a token that is refused, or a
 * reload (`waiting` is kept, and given back to the next one). */
export class Outbox {
  #waiting: Waiting[];
  #made = new Map<string, number>(); // a version that a change from here was made on -> the version that it led to
  #sending = false;
  #sent: Promise<void> = Promise.resolve();
  #wake = () => {};

  constructor(
    waiting: readonly Waiting[],
    readonly events: OutboxEvents,
    readonly pause = 3000,
  ) {
    this.#waiting = [...waiting];
  }

  get waiting(): readonly Waiting[] {
    return this.#waiting;
  }

  /** Add a change. `seen` is the task as the user saw it: changes from here that were made since are theirs, too, and
   * don't count as somebody else's. */
  add(change: Change, seen: Task | null, at = new Date()): string {
    const follows = this.#waiting.findLast((each) => each.change.id === change.id)?.key ?? null;
    const key = newKey();
    const moment = at.toISOString().replace("Z", "000Z");
    const version = follows === null && seen ? this.#versionAfterOwn(change.id, seen.version) : null;
    this.#set([...this.#waiting, { key, change, seen, version, follows, at: moment }]);
    return key;
  }

  /** Take back a change that isn't on its way yet. Return false if it is too late. */
  drop(key: string): boolean {
    const index = this.#waiting.findIndex((each) => each.key === key);
    if (index < (this.#sending ? 1 : 0)) return false;
    const { version, follows } = this.#waiting[index]!;
    this.#remove(key, { version, follows });
    return true;
  }

  /** Give up a change that can't be sent, with what follows on it if it was to create the task. The service may have
   * made it nevertheless, if only the answer was lost. Return what was given up. */
  discard(key: string): Waiting[] {
    const found = this.#waiting.find((each) => each.key === key);
    if (!found) return [];
    const { change, version, follows } = found;
    const gone = change.op === "create" ? this.#chain(change.id) : [found];
    for (const each of gone) this.#remove(each.key, { version, follows });
    this.events.held(null);
    this.#wake();
    return gone;
  }

  /** Forget all that waits, since the user signs out. */
  clear(): void {
    this.#set([]);
  }

  /** Try again now, since the network may be back. */
  hurry(): void {
    this.#wake();
  }

  /** Send all that waits, after what is being sent with another token. Ends when nothing waits, or when the token is
   * refused or the signal is aborted. */
  send(daybook: Daybook, signal: AbortSignal): Promise<void> {
    this.#sent = this.#sent.then(() => this.#sendAll(daybook, signal));
    return this.#sent;
  }

  async #sendAll(daybook: Daybook, signal: AbortSignal): Promise<void> {
    const wake = () => this.#wake();
    signal.addEventListener("abort", wake);
    this.#sending = true;
    try {
      for (let next = this.#waiting[0]; next && !signal.aborted; next = this.#waiting[0]) {
        let made: Made;
        try {
          made = await this.#write(daybook, next, signal);
        } catch (error) {
          if (signal.aborted || (error instanceof DaybookError && error.status === 401)) return;
          await this.#failed(next, error);
          continue;
        }
        this.events.held(null);
        this.#made.set(placeOf(next.change.id, next.version ?? versionBefore(next.change)), made.version);
        this.#remove(next.key, { version: made.version, follows: null });
        this.events.made(next, made);
      }
    } finally {
      this.#sending = false;
      signal.removeEventListener("abort", wake);
    }
  }

  /** Take back what Daybook has refused; wait before anything else is tried again. */
  async #failed(next: Waiting, error: unknown): Promise<void> {
    if (!this.#waiting.some(({ key }) => key === next.key)) return; // the user has given it up meanwhile
    if (!isRefusal(error)) {
      this.events.held(error);
      return this.#waitAWhile(error instanceof DaybookError ? error.retryAfter : undefined);
    }
    this.events.held(null);
    const chain = this.#chain(next.change.id);
    this.#set(this.#waiting.filter((each) => !chain.includes(each)));
    this.events.refused(chain, error);
  }

  /** Return the changes of a task that wait: each follows on the one before. */
  #chain(id: string): Waiting[] {
    return this.#waiting.filter(({ change }) => change.id === id);
  }

  /** Return the version that the changes from here have led to, beginning with the given one. */
  #versionAfterOwn(id: string, version: number): number {
    for (let next = this.#made.get(placeOf(id, version)); next !== undefined && next > version; ) {
      version = next;
      next = this.#made.get(placeOf(id, version));
    }
    return version;
  }

  /** Remove a change. What follows on it follows on the given place from now on. */
  #remove(key: string, place: Pick<Waiting, "version" | "follows">): void {
    const others = this.#waiting.filter((each) => each.key !== key);
    this.#set(others.map((each) => (each.follows === key ? { ...each, ...place } : each)));
  }

  #set(waiting: Waiting[]): void {
    this.#waiting = waiting;
    this.events.changed(waiting);
  }

  #waitAWhile(ms = this.pause): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #write(daybook: Daybook, { key, change, version }: Waiting, signal: AbortSignal): Promise<Made> {
    const options = { key, signal, ifMatch: version ?? undefined };
    const after = ({ task, seq }: { task: Task; seq: number | null }) => ({ task, seq, version: task.version });
    switch (change.op) {
      case "create":
        return after(await daybook.createTask({ ...change.fields, id: change.id }, { key, signal }));
      case "update":
        return after(await daybook.updateTask(change.id, change.fields, options));
      case "complete":
        return after(await daybook.completeTask(change.id, change.completed, options));
      case "restore":
        return after(await daybook.restoreTask(change.id, {}, { key, signal }));
      case "delete": {
        const { seq } = await daybook.deleteTask(change.id, options);
        return { task: null, seq, version: (version ?? 0) + 1 };
      }
    }
  }
}

function placeOf(id: string, version: number): string {
  return `${id} ${version}`;
}

/** Return the version that a change without `If-Match` is made on, as far as the user saw. */
function versionBefore(change: Change): number {
  return change.op === "restore" ? change.task.version + 1 : 0;
}

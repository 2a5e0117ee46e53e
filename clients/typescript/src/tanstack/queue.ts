import type { Daybook } from "../client.js";
import { backoff, isRefusal, sleep } from "../retry.js";
import { carryOut, type Operation, type Result } from "./operation.js";

/** Where the queue survives a reload: `localStorage`, or anything like it, also if it answers later. */
export interface QueueStorage {
  getItem(name: string): string | null | Promise<string | null>;
  setItem(name: string, value: string): void | Promise<void>;
}

export interface QueueOptions {
  storage?: QueueStorage | undefined;
  /** Called with each operation once it was carried out, refused or discarded, also those from before a reload. */
  onEnd?: ((operation: Operation, result: Result | undefined, error: unknown) => void) | undefined;
}

/** What all other operations wait for. */
export interface QueueStatus {
  /** The operation that was tried last, and is tried again. */
  operation: Operation;
  /** Why it couldn't be carried out: the network, a proxy, an error of the service, or no token. */
  error: unknown;
}

/** What stays of an operation that was discarded: another tab may wait for its answer, and must not send it. */
interface Discarded {
  op: "discarded";
  key: string;
}

const MOST_DISCARDED = 100;

interface Waiting {
  operation: Operation;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/** Operations that wait to be sent, one after the other, in the order in which the user made them. */
export class OfflineQueue {
  readonly #daybook: Daybook;
  readonly #storage: QueueStorage;
  readonly #name: string;
  readonly #onEnd: QueueOptions["onEnd"];
  readonly #waiting = new Map<string, Waiting>();
  #turn: Promise<unknown> = Promise.resolve();
  #sending: Promise<boolean> = Promise.resolve(true);
  #next: Promise<boolean> | undefined;
  #status: QueueStatus | null = null;
  readonly #listeners = new Set<() => void>();

  constructor(daybook: Daybook, { storage, onEnd }: QueueOptions = {}) {
    this.#daybook = daybook;
    this.#storage = storage ?? defaultStorage();
    this.#name = `daybook:${daybook.userId}`;
    this.#onEnd = onEnd;
  }

  /** Return the operations that wait, also those from before a reload. */
  async pending(): Promise<Operation[]> {
    return (await this.#stored()).filter(isOperation);
  }

  /** Return the operation that all others wait for, and why; null if nothing is in the way, as far as is known. */
  readonly status = (): QueueStatus | null => this.#status;

  /** Call the function whenever `status` has changed. Return what ends that. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** Store an operation, and send it when its turn comes. The result is the answer, however late. */
  async add(operation: Operation): Promise<Result> {
    await this.#change((all) => [...all, operation]);
    return new Promise((resolve, reject) => {
      this.#waiting.set(operation.key, { operation, resolve, reject });
      void this.flush();
    });
  }

  /** Give up an operation that can't be sent. If it creates a task, what was done to the task goes, too. Daybook may have
   * carried it out nevertheless, if only the answer was lost. Return what was given up; its promises are rejected. */
  async discard(key: string): Promise<Operation[]> {
    let gone: Operation[] = [];
    await this.#change((all) => {
      const found = all.filter(isOperation).find((each) => each.key === key);
      const follows = (each: Operation) => found?.op === "create" && each.id === found.id;
      gone = all.filter(isOperation).filter((each) => each === found || follows(each));
      return without(all, gone);
    });
    for (const operation of gone) this.#end(operation, undefined, discarded());
    if (gone.some((each) => each.key === this.#status?.operation.key)) this.#tell(null);
    void this.flush();
    return gone;
  }

  /** Send all that waits. Return false if some of it must wait longer: for the network, the service, or a token. */
  flush(): Promise<boolean> {
    return (this.#next ??= this.#sending.then(() => {
      this.#next = undefined;
      this.#sending = exclusively(this.#name, () => this.#send()).catch(() => false);
      return this.#sending;
    }));
  }

  /** Send what waits now, when the network is back, and time and again until all is sent. */
  async run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      const emptied = await this.flush();
      failures = emptied ? 0 : failures + 1;
      await untilOnline(emptied ? 30_000 : backoff(failures, 1000), signal);
    }
  }

  async #send(): Promise<boolean> {
    for (let operation = await this.#first(); operation; operation = await this.#first()) {
      if (globalThis.navigator?.onLine === false) return false;
      let result: Result | undefined;
      let failure: unknown;
      try {
        result = await carryOut(this.#daybook, operation);
      } catch (error) {
        if (isDiscarded(await this.#stored(), operation)) continue; // meanwhile
        if (!isRefusal(error)) {
          this.#tell({ operation, error });
          return false;
        }
        failure = error;
      }
      this.#tell(null);
      await this.#change((all) => rebased(all, operation, result));
      this.#end(operation, result, failure);
    }
    this.#tell(null); // another tab may have sent or discarded what was in the way
    return true;
  }

  /** Return the operation to be sent next. One that another tab has sent is sent again, to get its answer. */
  async #first(): Promise<Operation | undefined> {
    const stored = await this.#stored();
    for (const { operation } of [...this.#waiting.values()])
      if (isDiscarded(stored, operation)) this.#end(operation, undefined, discarded()); // in another tab
    return stored.find(isOperation) ?? this.#waiting.values().next().value?.operation;
  }

  #end(operation: Operation, result: Result | undefined, failure: unknown): void {
    this.#onEnd?.(operation, result, failure);
    const waiting = this.#waiting.get(operation.key);
    this.#waiting.delete(operation.key);
    if (result) waiting?.resolve(result);
    else waiting?.reject(failure);
  }

  #tell(status: QueueStatus | null): void {
    if (status === this.#status) return;
    this.#status = status;
    for (const listener of this.#listeners) listener();
  }

  async #stored(): Promise<Stored[]> {
    return parsed(await this.#storage.getItem(this.#name));
  }

  /** Change what is stored, as it is now: another tab may have changed it. The lock isn't that of sending, so that an
   * operation is stored while others are on their way. */
  #change(change: (all: Stored[]) => Stored[]): Promise<void> {
    const rewrite = async () => {
      const found = this.#storage.getItem(this.#name);
      const text = found === null || typeof found === "string" ? found : await found; // a pause would let others in
      await this.#storage.setItem(this.#name, JSON.stringify(change(parsed(text))));
    };
    const turn = this.#turn.then(() => exclusively(`${this.#name} stored`, rewrite));
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

type Stored = Operation | Discarded;

function parsed(stored: string | null): Stored[] {
  return JSON.parse(stored ?? "[]") as Stored[];
}

function isOperation(stored: Stored): stored is Operation {
  return stored.op !== "discarded";
}

function isDiscarded(all: Stored[], { key }: Operation): boolean {
  return all.some((each) => !isOperation(each) && each.key === key);
}

function discarded(): DOMException {
  return new DOMException("The operation was discarded.", "AbortError");
}

/** Take operations out, and keep for other tabs that they were discarded. */
function without(all: Stored[], gone: Operation[]): Stored[] {
  const before = all.filter((each): each is Discarded => !isOperation(each));
  const now = gone.map(({ key }): Discarded => ({ op: "discarded", key }));
  const left = all.filter(isOperation).filter((each) => !gone.includes(each));
  return [...[...before, ...now].slice(-MOST_DISCARDED), ...left];
}

/** Take an operation out. Later ones of the same task, made on the same version, then mean the version that it made. */
function rebased(all: Stored[], done: Operation, result: Result | undefined): Stored[] {
  const version = result?.task?.version;
  return all
    .filter((each) => !isOperation(each) || each.key !== done.key)
    .map((each) =>
      version !== undefined && isOperation(each) && each.id === done.id && each.ifMatch === done.ifMatch
        ? { ...each, ifMatch: version }
        : each,
    );
}

/** Run the work while no other tab does. Without Web Locks (on a page without https), tabs may send the same operation:
 * its key makes it one; and storage that answers later may lose one of two that are stored at the same moment. */
function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  return locks ? (locks.request(name, work) as Promise<T>) : work();
}

async function untilOnline(ms: number, signal: AbortSignal): Promise<void> {
  const wake = new AbortController();
  const online = () => wake.abort();
  globalThis.addEventListener?.("online", online);
  await sleep(ms, AbortSignal.any([signal, wake.signal])).catch(() => {});
  globalThis.removeEventListener?.("online", online);
}

function defaultStorage(): QueueStorage {
  try {
    if (typeof localStorage !== "undefined") return localStorage;
  } catch {
    // the browser lets this page keep nothing
  }
  const kept = new Map<string, string>();
  return { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => void kept.set(name, value) };
}

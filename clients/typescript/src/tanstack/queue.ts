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
  /** Called with each operation once it was carried out or refused, also those from before a reload. */
  onEnd?: ((operation: Operation, result: Result | undefined, error: unknown) => void) | undefined;
}

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

  constructor(daybook: Daybook, { storage, onEnd }: QueueOptions = {}) {
    this.#daybook = daybook;
    this.#storage = storage ?? defaultStorage();
    this.#name = `daybook:${daybook.userId}`;
    this.#onEnd = onEnd;
  }

  /** Return the operations that wait, also those from before a reload. */
  async pending(): Promise<Operation[]> {
    return operations(await this.#storage.getItem(this.#name));
  }

  /** Store an operation, and send it when its turn comes. The result is the answer, however late. */
  async add(operation: Operation): Promise<Result> {
    await this.#change((all) => [...all, operation]);
    return new Promise((resolve, reject) => {
      this.#waiting.set(operation.key, { operation, resolve, reject });
      void this.flush();
    });
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
        if (!isRefusal(error)) return false;
        failure = error;
      }
      await this.#done(operation, result, failure);
    }
    return true;
  }

  /** Return the operation to be sent next. One that another tab has sent is sent again, to get its answer. */
  async #first(): Promise<Operation | undefined> {
    const [first] = await this.pending();
    return first ?? this.#waiting.values().next().value?.operation;
  }

  async #done(operation: Operation, result: Result | undefined, failure: unknown): Promise<void> {
    await this.#change((all) => rebased(all, operation, result));
    this.#onEnd?.(operation, result, failure);
    const waiting = this.#waiting.get(operation.key);
    this.#waiting.delete(operation.key);
    if (result) waiting?.resolve(result);
    else waiting?.reject(failure);
  }

  /** Change what is stored, as it is now: another tab may have changed it. The lock isn't that of sending, so that an
   * operation is stored while others are on their way. */
  #change(change: (all: Operation[]) => Operation[]): Promise<void> {
    const rewrite = async () => {
      const found = this.#storage.getItem(this.#name);
      const text = found === null || typeof found === "string" ? found : await found; // a pause would let others in
      await this.#storage.setItem(this.#name, JSON.stringify(change(operations(text))));
    };
    const turn = this.#turn.then(() => exclusively(`${this.#name} stored`, rewrite));
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

function operations(stored: string | null): Operation[] {
  return JSON.parse(stored ?? "[]") as Operation[];
}

/** Take an operation out. Later ones of the same task, made on the same version, then mean the version that it made. */
function rebased(all: Operation[], done: Operation, result: Result | undefined): Operation[] {
  const version = result?.task?.version;
  return all
    .filter(({ key }) => key !== done.key)
    .map((each) =>
      version !== undefined && each.id === done.id && each.ifMatch === done.ifMatch
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

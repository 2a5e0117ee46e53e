import type { Daybook, SyncPage } from "./client.js";
import { isProblem } from "./problems.js";
import { backoff, isTransient, sleep } from "./retry.js";
import { stream } from "./stream.js";

/** A copy of the user's tasks, as a client keeps it: in memory, in IndexedDB, in SQLite. */
export interface SyncStore {
  /** Return the token that was stored last, undefined if there is none. */
  token(): string | undefined | Promise<string | undefined>;
  /** Put `tasks`, remove `deleted`, and store `next` as the token, in one transaction. If `replace` is true, the log
   * was replaced by a backup: remove all that the store had before. */
  apply(page: SyncPage, replace: boolean): void | Promise<void>;
}

export interface SyncOptions {
  /** Ends the sync, without an error. */
  signal?: AbortSignal | undefined;
  /** Called each time that the copy is complete. */
  onSynced?: (() => void) | undefined;
  /** Milliseconds before the first try after a failure, about. */
  pause?: number | undefined;
}

/** Bring the store up to date, once. */
export async function pull(
  daybook: Daybook,
  store: SyncStore,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  let since = await store.token();
  let replace = false;
  for (let more = true; more;) {
    try {
      const page = await daybook.getChanges(since === undefined ? {} : { since }, options);
      options.signal?.throwIfAborted();
      await store.apply(page, replace);
      ({ next: since, more } = page);
      replace = false;
    } catch (error) {
      if (since === undefined || !isProblem(error, "/problems/log-replaced")) throw error;
      since = undefined;
      replace = true;
    }
  }
}

/** Keep the store up to date, until the signal is aborted. An event of the stream only tells that there is something to
 * pull: so the store moves by pages alone, each with its token, and what comes is never older than what is there. */
export async function sync(daybook: Daybook, store: SyncStore, options: SyncOptions = {}): Promise<void> {
  const { signal, onSynced, pause = 1000 } = options;
  for (let failures = 0; !signal?.aborted;) {
    const attempt = new AbortController();
    const until = { signal: signal ? AbortSignal.any([signal, attempt.signal]) : attempt.signal };
    try {
      const { seq } = await daybook.getHead(until); // before the pull, so that what comes meanwhile is in the stream
      const next = bell(stream(daybook, { after: seq, ...until }));
      do {
        await pull(daybook, store, until);
        onSynced?.();
        failures = 0;
      } while (await next());
    } catch (error) {
      if (signal?.aborted) return;
      if (!isTransient(error) && !isProblem(error, "/problems/log-replaced")) throw error;
      await sleep(backoff(++failures, pause), signal).catch(() => {});
    } finally {
      attempt.abort();
    }
  }
}

/** Return a function that waits until something has come since it was called last. It returns false at the end. */
function bell(source: AsyncIterable<unknown>): () => Promise<boolean> {
  let rung = false;
  let ended = false;
  let failure: unknown;
  let wake = () => {};
  const listen = async () => {
    for await (const _ of source) {
      rung = true;
      wake();
    }
  };
  void listen()
    .catch((error: unknown) => (failure = error))
    .finally(() => {
      ended = true;
      wake();
    });
  return async () => {
    if (!rung && !ended) await new Promise<void>((resolve) => (wake = resolve));
    if (failure !== undefined) throw failure;
    const come = rung;
    rung = false;
    return come;
  };
}

import { computed, signal } from "@preact/signals";
import {
  all,
  type Daybook,
  DaybookError,
  isProblem,
  isRefusal,
  isTransient,
  newKey,
  stream,
  type StreamedEvent,
  type Task,
} from "daybook-client";
import { TaskCopy } from "./copy";
import { nameOf, withWaiting, type Change, type Waiting } from "./changes";
import { Outbox } from "./outbox";

/** A message for the user, with what its button does. */
export interface Toast {
  id: string;
  text: string;
  /** Whether it stays until the user dismisses it: something of theirs wasn't done. */
  stays: boolean;
  action?: { name: string; run: () => void };
}

export interface StoreOptions {
  userId: string;
  /** What waited in this tab when it was left or reloaded. */
  waiting?: readonly Waiting[] | undefined;
  /** Called with all that waits, after each change. Returns whether a reload will give it back. */
  keep?: ((waiting: readonly Waiting[]) => boolean) | undefined;
}

export type Store = ReturnType<typeof createStore>;

/** Make the state of one user's tasks: a copy that follows the feed, and the changes that are on their way. */
export function createStore({ userId, waiting = [], keep }: StoreOptions) {
  const copy = new TaskCopy();
  const revision = signal(0);
  const pending = signal<readonly Waiting[]>(waiting);
  const loaded = signal(false);
  const offline = signal(false);
  const blocked = signal(""); // why the first change can't be sent, though the service is there; a sentence
  const kept = signal(true);
  const failure = signal("");
  const toasts = signal<readonly Toast[]>([]);
  const event = signal<StreamedEvent | null>(null);
  const written = signal<readonly number[]>([]);
  let daybook: Daybook | undefined;
  let until = AbortSignal.abort();

  const moved = () => revision.value++;
  const tasks = computed(() => {
    revision.value; // the copy itself is no signal: ten thousand tasks are put at once
    return withWaiting(copy.tasks, pending.value, userId);
  });

  /** Whether changes wait for more than the answer that is on its way: they would be lost with the tab. */
  const atRisk = computed(() => pending.value.length > 0 && (offline.value || blocked.value !== "" || !kept.value));

  const outbox = new Outbox(waiting, {
    changed(now) {
      pending.value = now;
      kept.value = keep?.(now) ?? false;
    },
    made({ change }, { task, seq, version }) {
      if (task ? copy.put(task) : copy.remove(change.id, version)) moved();
      if (seq !== null) written.value = [...written.value, seq];
    },
    refused: (chain, error) => void refused(chain, error),
    held(error) {
      offline.value = isTransient(error);
      blocked.value = error === null || offline.value ? "" : messageOf(error);
    },
  });

  /** Tell the user something, for a while, or until they dismiss it. */
  function tell(text: string, action?: Toast["action"], stays = false): void {
    const passing = toasts.value.filter((each) => !each.stays).slice(0, stays ? 0 : -2);
    const kept = toasts.value.filter((each) => !passing.includes(each));
    toasts.value = [...kept, { id: newKey(), text, stays, ...(action && { action }) }];
  }

  function dismiss(id: string): void {
    toasts.value = toasts.value.filter((each) => each.id !== id);
  }

  /** Tell what was refused, with all that was to follow on it, and offer to make what still can be. */
  async function refused(chain: readonly Waiting[], error: unknown): Promise<void> {
    const [first, ...later] = chain as [Waiting, ...Waiting[]];
    const name = nameOf(first);
    if (!isProblem(error, "/problems/precondition-failed") && !isProblem(error, "/problems/task-not-found")) {
      const too = later.length ? ` What you did to it later wasn't done either (${countText(later.length)}).` : "";
      const others = later.length && first.change.op !== "create";
      const action = others ? { name: "Do the rest", run: () => repeat(later) } : undefined;
      return tell(`${name}: ${messageOf(error)}${too}`, action, true);
    }
    const lost = later.length ? `your ${countText(chain.length)} weren't made` : "your change wasn't made";
    if (await isGone(first.change.id)) return tell(`${name} was deleted elsewhere, so ${lost}.`, undefined, true);
    const again = later.length ? "Make them anyway" : "Make it anyway";
    tell(`${name} was changed elsewhere, so ${lost}.`, { name: again, run: () => repeat(chain) }, true);
  }

  /** Make changes of a task once more, in order, on the task as the user sees it now. */
  function repeat(chain: readonly Waiting[]): void {
    for (const { change, seen } of chain) submit(change, copy.tasks.get(change.id) ?? seen);
  }

  /** Read a task anew, and say if it is gone. One that can't be read just now isn't: the feed will bring it. */
  async function isGone(id: string): Promise<boolean> {
    try {
      if (daybook && copy.put(await daybook.getTask(id, {}, { signal: until }))) moved();
    } catch (error) {
      if (isProblem(error, "/problems/task-not-found")) {
        const known = copy.tasks.get(id);
        if (known && copy.remove(id, known.version + 1)) moved();
        return true;
      }
      if (!until.aborted) tell(messageOf(error));
    }
    return false;
  }

  /** Make a change: it shows at once, and is sent as soon as can be. Return its key. */
  function submit(change: Change, seen: Task | null): string {
    const key = outbox.add(change, seen);
    void flush();
    return key;
  }

  /** Give up a change that can't be sent. The user can still change their mind. */
  function discard(key: string): void {
    const gone = outbox.discard(key);
    if (!gone[0]) return;
    tell(`${nameOf(gone[0])}: ${countText(gone.length)} discarded.`, { name: "Undo", run: () => repeat(gone) });
  }

  /** Forget the changes that wait, since the user signs out. */
  function forget(): void {
    outbox.clear();
  }

  async function flush(): Promise<void> {
    if (daybook) await outbox.send(daybook, until);
  }

  /** Delete a task, and offer to undo it. */
  function remove(task: Task): void {
    const key = submit({ op: "delete", id: task.id }, task);
    const undo = () => {
      if (!outbox.drop(key)) submit({ op: "restore", id: task.id, task }, null);
    };
    tell(`Deleted “${task.title}”.`, { name: "Undo", run: undo });
  }

  /** Take back an event: the given one, or else the last one that was written here, or the user's last one. What is
   * still on its way comes first: it is what the user did last. */
  async function undo(seq?: number): Promise<void> {
    if (seq === undefined) await flush();
    if (!daybook || until.aborted) return;
    const last = seq ?? written.value.at(-1);
    try {
      const done = await daybook.undo(last === undefined ? {} : { seq: last }, { signal: until });
      if (done.task && copy.put(done.task)) moved();
      if (seq === undefined) written.value = written.value.slice(0, -1);
      const action = done.seq === null ? undefined : { name: "Redo", run: () => void undo(done.seq!) };
      tell(done.task ? `Undone: “${done.task.title}” is as it was before.` : "Undone: the task is gone again.", action);
    } catch (error) {
      if (!until.aborted) tell(messageOf(error));
    }
  }

  /** Read all tasks, then follow the feed, until the signal is aborted or the token is refused. */
  async function follow(client: Daybook, signal: AbortSignal): Promise<void> {
    [daybook, until] = [client, signal];
    let attempt = new AbortController();
    let last: number | undefined;
    const lost = () => (offline.value = true);
    const back = () => {
      offline.value = false;
      outbox.hurry();
      attempt.abort(); // connect at once: a stream that has failed a few times waits for half a minute
    };
    const turned = () => document.hidden && attempt.abort();
    addEventListener("offline", lost, { signal });
    addEventListener("online", back, { signal });
    document.addEventListener("visibilitychange", turned, { signal });
    void flush();
    while (!signal.aborted) {
      attempt = new AbortController();
      const either = AbortSignal.any([signal, attempt.signal]);
      try {
        if (last === undefined) last = await load(client, either);
        else if (offline.value) await reached(client, either);
        await looked(either);
        for await (const each of stream(client, { after: last, signal: either })) {
          last = each.seq;
          receive(each);
        }
      } catch (error) {
        if (signal.aborted || (error instanceof DaybookError && error.status === 401)) return;
        if (isProblem(error, "/problems/log-replaced")) {
          copy.clear();
          last = undefined;
        } else if (isRefusal(error)) {
          failure.value = messageOf(error);
          return;
        } else if (!attempt.signal.aborted) {
          offline.value = true;
          await settled(2000, either);
        }
      }
    }
  }

  async function load(client: Daybook, signal: AbortSignal): Promise<number> {
    const { seq } = await client.getHead({ signal });
    const before = new Map(copy.tasks);
    const read = await all(loading(client), { limit: 1000 }, { signal });
    const there = new Set(read.map(({ id }) => id));
    for (const [id, task] of before) if (!there.has(id) && copy.tasks.get(id) === task) copy.tasks.delete(id);
    [loaded.value, offline.value, failure.value] = [true, false, ""];
    moved();
    return seq;
  }

  /** Ask for something small, since a feed says nothing until something happens. */
  async function reached(client: Daybook, signal: AbortSignal): Promise<void> {
    await client.getHead({ signal });
    offline.value = false;
  }

  /** Show each page as it comes: the first tasks don't wait for the last ones. */
  function loading(client: Daybook): Daybook["listTasks"] {
    return async (query, options) => {
      const page = await client.listTasks(query, options);
      for (const task of page.items) copy.put(task);
      moved();
      return page;
    };
  }

  function receive(each: StreamedEvent): void {
    if (each.task ? copy.put(each.task) : copy.remove(each.task_id, each.version)) moved();
    offline.value = false;
    event.value = each;
  }

  return {
    userId,
    tasks,
    pending,
    loaded,
    offline,
    blocked,
    atRisk,
    failure,
    toasts,
    event,
    written,
    submit,
    discard,
    forget,
    remove,
    undo,
    follow,
    tell,
    dismiss,
  };
}

/** Wait so many milliseconds, or until the signal is aborted. */
function settled(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Wait until somebody may look at the tab, or the signal is aborted. Browsers open six connections to a service without
 * HTTP/2, for all tabs together: if hidden ones kept their feeds, the next tab would get no answer at all. */
function looked(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const ready = () => !document.hidden && resolve();
    document.addEventListener("visibilitychange", ready, { signal });
    signal.addEventListener("abort", () => resolve(), { once: true });
    ready();
  });
}

/** Return how many changes there are, in words. */
export function countText(changes: number): string {
  return changes === 1 ? "one change" : `${changes} changes`;
}

/** Return what to tell the user about an error. */
export function messageOf(error: unknown): string {
  if (error instanceof DaybookError) return error.message;
  if (isTransient(error)) return "The service can't be reached just now.";
  if (error instanceof SyntaxError) return "Something else than Daybook has answered."; // a captive portal, say
  return error instanceof Error ? error.message : String(error);
}

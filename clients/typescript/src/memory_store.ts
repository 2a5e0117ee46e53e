import type { SyncPage, Task } from "./client.js";
import type { SyncStore } from "./sync.js";

/** A copy in memory. With React: `useSyncExternalStore(store.subscribe, store.list)`. */
export class MemoryStore implements SyncStore {
  #tasks = new Map<string, Task>();
  #token: string | undefined;
  #list: readonly Task[] = [];
  #listeners = new Set<() => void>();

  token = () => this.#token;

  apply = (page: SyncPage, replace: boolean): void => {
    if (replace) this.#tasks.clear();
    for (const task of page.tasks) this.#tasks.set(task.id, task);
    for (const { id } of page.deleted) this.#tasks.delete(id);
    this.#token = page.next;
    if (!page.tasks.length && !page.deleted.length && !replace) return;
    this.#list = [...this.#tasks.values()].sort(newestFirst);
    for (const listener of this.#listeners) listener();
  };

  /** Return the tasks in the order of the list, newest first: the same array until something changes. */
  list = (): readonly Task[] => this.#list;

  /** Call the listener after each change. Return the function that ends it. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

/** Order tasks as the service lists them unless it is asked for another order. */
export function newestFirst(a: Task, b: Task): number {
  const [left, right] = a.created_at === b.created_at ? [a.id, b.id] : [a.created_at, b.created_at];
  return left < right ? 1 : left > right ? -1 : 0;
}

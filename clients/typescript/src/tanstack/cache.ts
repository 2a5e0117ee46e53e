import type { Task } from "../client.js";
import { newestFirst } from "../memory_store.js";
import type { Operation } from "./operation.js";
import { expected } from "./operation.js";

type Key = readonly unknown[];
type Query = { queryKey: Key; state: { data: unknown; dataUpdatedAt: number } };

/** What is needed of TanStack's `QueryClient`, of whichever release the app has. */
export interface QueryClient {
  getQueryCache(): { findAll(filters: { queryKey: Key }): readonly Query[] };
  setQueryData(key: Key, data: unknown, options: { updatedAt: number }): unknown;
  invalidateQueries(filters: { queryKey: Key; predicate?: (query: Query) => boolean }): Promise<void>;
}

/** A list in the query cache: `tasks` is what is shown, `fetched` the list as it was at event `seq`. */
export interface TaskList {
  seq: number;
  fetched: Task[];
  tasks: Task[];
}

export type TaskKeys = ReturnType<typeof taskKeys>;

/** Make the query keys of a user's tasks. */
export function taskKeys(userId: string) {
  const all = ["daybook", userId] as const;
  return { all, lists: [...all, "tasks"] as const, list: (query: object) => [...all, "tasks", query] as const };
}

/** What is known beyond the fetched lists: newer tasks, by events and answers, and writes that wait for an answer.
 *
 * A list shows what was fetched, then every task that an event after its `seq` has changed, then what the pending
 * operations will do. So nothing older ever replaces something newer, whatever the order in which answers come, and an
 * operation that is refused leaves no trace. */
export class TaskCache {
  readonly #client: QueryClient;
  readonly #keys: TaskKeys;
  readonly #userId: string;
  readonly #known = new Map<string, { seq: number; task: Task | null }>();
  #pending: Operation[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(client: QueryClient, userId: string) {
    this.#client = client;
    this.#userId = userId;
    this.#keys = taskKeys(userId);
  }

  /** Take in what event `seq` has made of a task; null if it was deleted. */
  take(id: string, seq: number, task: Task | null): void {
    if ((this.#known.get(id)?.seq ?? 0) >= seq) return;
    this.#known.set(id, { seq, task });
    this.#show();
    this.#timer ??= setTimeout(() => this.#refetchFiltered(), 100); // once for many events
  }

  begin(operation: Operation): void {
    if (this.#pending.some(({ key }) => key === operation.key)) return;
    this.#pending.push(operation);
    this.#show();
  }

  end(operation: Operation): void {
    this.#pending = this.#pending.filter(({ key }) => key !== operation.key);
    this.#show();
  }

  /** Forget what is known, and fetch all anew: the log was replaced. */
  reset(): void {
    this.#known.clear();
    void this.#client.invalidateQueries({ queryKey: this.#keys.all });
  }

  /** Fetch the lists that are older than an event. */
  refetchBefore(seq: number): void {
    const isOlder = (data: unknown) => ((data as TaskList | undefined)?.seq ?? seq) < seq;
    const queryKey = this.#keys.lists;
    void this.#client.invalidateQueries({ queryKey, predicate: ({ state }) => isOlder(state.data) });
  }

  /** Make the list that is shown of one that was fetched. */
  list(seq: number, fetched: Task[], query: object): TaskList {
    const byId = new Map(fetched.map((task) => [task.id, task]));
    const set = (id: string, task: Task | null | undefined) => (task ? byId.set(id, task) : byId.delete(id));
    for (const [id, known] of this.#known) if (known.seq > seq) set(id, known.task);
    for (const each of this.#pending) set(each.id, expected(each, byId.get(each.id), this.#userId));
    const tasks = isWhole(query)
      ? [...byId.values()].sort(newestFirst)
      : fetched.flatMap(({ id }) => byId.get(id) ?? []); // only the service knows if a new one fits, and where
    return { seq, fetched, tasks };
  }

  #show(): void {
    for (const { queryKey, state } of this.#client.getQueryCache().findAll({ queryKey: this.#keys.lists })) {
      const data = state.data as TaskList | undefined;
      if (!data) continue;
      const list = this.list(data.seq, data.fetched, queryKey.at(-1) as object);
      this.#client.setQueryData(queryKey, list, { updatedAt: state.dataUpdatedAt });
    }
  }

  #refetchFiltered(): void {
    this.#timer = undefined;
    const predicate = ({ queryKey }: Query) =>
      queryKey.length !== this.#keys.lists.length + 1 || !isWhole(queryKey.at(-1) as object);
    void this.#client.invalidateQueries({ queryKey: this.#keys.all, predicate });
  }
}

function isWhole(query: object): boolean {
  return Object.keys(query).length === 0;
}

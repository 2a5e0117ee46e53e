import type { Daybook, NewTask, Task, TaskChanges } from "../client.js";
import { newKey } from "../keys.js";
import { isProblem } from "../problems.js";
import { backoff, isRefusal, isTransient, sleep } from "../retry.js";
import { stream } from "../stream.js";
import { type QueryClient, TaskCache, taskKeys, type TaskList } from "./cache.js";
import type { Operation, Result } from "./operation.js";
import { OfflineQueue, type QueueStorage } from "./queue.js";

export { type QueryClient, taskKeys, type TaskList } from "./cache.js";
export type { Operation, Result } from "./operation.js";
export { OfflineQueue, type QueueOptions, type QueueStatus, type QueueStorage } from "./queue.js";

type ListQuery = NonNullable<Parameters<Daybook["listTasks"]>[0]>;

export interface TaskQueriesOptions {
  daybook: Daybook;
  client: QueryClient;
  /** Where writes are kept until they are answered; `localStorage` unless given. */
  storage?: QueueStorage | undefined;
  /** Called if a write is refused, also one from before a reload that no component waits for. */
  onRefused?: ((error: unknown, operation: Operation) => void) | undefined;
}

export type TaskQueries = ReturnType<typeof createTaskQueries>;

/** Make options for TanStack Query: `useQuery(tasks.list())`, `useMutation(tasks.create())`.
 *
 * Writes show at once, are sent in order when there is a network, and go back if they are refused. */
export function createTaskQueries({ daybook, client, storage, onRefused }: TaskQueriesOptions) {
  const keys = taskKeys(daybook.userId);
  const cache = new TaskCache(client, daybook.userId);
  const queue = new OfflineQueue(daybook, {
    storage,
    onEnd(operation, result, error) {
      if (result?.seq) cache.take(operation.id, result.seq, result.task);
      cache.end(operation);
      if (result) return;
      void client.invalidateQueries({ queryKey: keys.all });
      if (isRefusal(error)) onRefused?.(error, operation); // else the app has discarded it
    },
  });
  let since = 0;

  async function fetchList(query: ListQuery, signal: AbortSignal): Promise<TaskList> {
    const first = await daybook.listTasks(query, { signal });
    const fetched = first.items;
    for (let page = first.next; page !== undefined;) {
      const more = await daybook.listTasks(query, { signal, page });
      fetched.push(...more.items);
      page = more.next;
    }
    return cache.list(Number(/\d+/.exec(first.etag ?? "")?.[0] ?? 0), fetched, query);
  }

  const made = new WeakMap<object, Operation>();

  /** Make a mutation's options. `execution` is TanStack's object for one call of `mutate`: its retries keep the key. */
  function mutation<V>(make: (variables: V) => Operation) {
    return {
      networkMode: "always" as const, // else it would wait in memory while there is no network
      retry: false as const,
      onMutate(variables: V, execution: object): void {
        const operation = make(variables);
        made.set(execution, operation);
        cache.begin(operation);
      },
      async mutationFn(variables: V, execution: object): Promise<Result> {
        const operation = made.get(execution) ?? make(variables);
        try {
          return await queue.add(operation);
        } finally {
          cache.end(operation); // also if it couldn't be stored
        }
      },
    };
  }

  return {
    keys,
    queue,
    /** List tasks, all pages of them. With an empty query, new tasks show at once; other lists are fetched again. */
    list: (query: ListQuery = {}) => ({
      queryKey: keys.list(query),
      queryFn: async ({ signal }: { signal: AbortSignal }): Promise<TaskList> => {
        const list = await fetchList(query, signal);
        return list.seq < since ? fetchList(query, signal) : list;
      },
      select: (list: TaskList): Task[] => list.tasks,
    }),
    /** Count the tasks. */
    stats: () => ({
      queryKey: [...keys.all, "stats"] as const,
      queryFn: ({ signal }: { signal: AbortSignal }) => daybook.countTasks({}, { signal }),
    }),
    create: () =>
      mutation((task: NewTask) => {
        const id = typeof task.id === "string" ? task.id : newKey();
        return { op: "create", key: newKey(), id, task, at: now() };
      }),
    /** Change a task, unless somebody else has changed it since it was shown. */
    update: () =>
      mutation(({ task, changes }: { task: Task; changes: TaskChanges }) => ({ op: "update", ...on(task), changes })),
    complete: () =>
      mutation(({ task, completed = true }: { task: Task; completed?: boolean }) => ({
        op: "complete",
        ...on(task),
        completed,
      })),
    remove: () => mutation(({ task }: { task: Task }) => ({ op: "delete", ...on(task) })),
    /** Keep the lists up to date by the stream of events, and send what waits, until the signal is aborted. */
    async follow({ signal }: { signal: AbortSignal }): Promise<void> {
      for (const operation of await queue.pending()) cache.begin(operation);
      void queue.run(signal);
      for (let failures = 0; !signal.aborted;) {
        try {
          since = (await daybook.getHead({ signal })).seq;
          cache.refetchBefore(since);
          for await (const { task_id, seq, task } of stream(daybook, { after: since, signal })) {
            failures = 0;
            cache.take(task_id, seq, task);
          }
        } catch (error) {
          if (signal.aborted) return;
          if (isProblem(error, "/problems/log-replaced")) {
            since = 0;
            cache.reset();
          } else if (!isTransient(error)) throw error;
          await sleep(backoff(++failures, 1000), signal).catch(() => {});
        }
      }
    },
  };
}

function on({ id, version }: Task) {
  return { key: newKey(), id, ifMatch: version };
}

function now(): string {
  return new Date().toISOString().replace("Z", "000Z"); // six decimals, so that times sort as text
}

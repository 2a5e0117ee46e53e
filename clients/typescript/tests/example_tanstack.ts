import type { MutationObserverOptions, QueryObserverOptions } from "@tanstack/query-core";
import type { Daybook, Task } from "daybook-client";
import type { Result, TaskList } from "daybook-client/tanstack";

// as React Query has them
declare function useQuery(options: QueryObserverOptions<TaskList, Error, Task[], TaskList, readonly unknown[]>): {
  data: Task[] | undefined;
};
declare function useMutation<V>(options: MutationObserverOptions<Result, Error, V, void>): {
  mutate(variables: V): void;
};
declare function useEffect(effect: () => () => void, on: unknown[]): void;
declare const daybook: Daybook;
declare const queryClient: import("@tanstack/query-core").QueryClient;
declare const task: Task;

// README
import { createTaskQueries } from "daybook-client/tanstack";

const tasks = createTaskQueries({ daybook, client: queryClient });

const { data } = useQuery(tasks.list());
const create = useMutation(tasks.create());
const complete = useMutation(tasks.complete());
useEffect(() => {
  const stop = new AbortController();
  tasks.follow({ signal: stop.signal }).catch(console.error); // signed out, say
  return () => stop.abort();
}, [tasks]);

create.mutate({ title: "Buy milk" }); // shows at once, also without a network, and after a reload
complete.mutate({ task }); // goes back if somebody else was first: onRefused tells
console.log(data);

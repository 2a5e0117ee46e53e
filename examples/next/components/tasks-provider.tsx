"use client";

import { type DehydratedState, HydrationBoundary, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createDaybook, type Daybook, DaybookError } from "daybook-client";
import { createTaskQueries, type TaskQueries } from "daybook-client/tanstack";
import { createContext, type ReactNode, useContext, useEffect, useState } from "react";
import { authClient } from "@/lib/auth-client";
import { explain } from "@/lib/explain";
import { leave } from "@/lib/leave";

interface Tasks {
  daybook: Daybook;
  tasks: TaskQueries;
  /** What was refused, and what to do; empty if nothing was. */
  notice: string;
  setNotice: (notice: string) => void;
}

const TasksContext = createContext<Tasks | null>(null);

export function useTasks(): Tasks {
  const tasks = useContext(TasksContext);
  if (!tasks) throw new Error("useTasks is for components within TasksProvider.");
  return tasks;
}

interface Props {
  userId: string;
  /** The queries that the server has answered. */
  state: DehydratedState;
  children: ReactNode;
}

// #region provider
/** Give the components below it the user's tasks, and keep them up to date. */
export function TasksProvider({ userId, state, children }: Props) {
  const [notice, setNotice] = useState("");
  const [{ client, daybook, tasks }] = useState(() => {
    const client = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } }); // the stream tells changes
    const daybook = createDaybook({ url: "/daybook", userId, token: "added by the proxy" });
    const onRefused: Refused = (error, operation) => setNotice(explain(error, operation));
    return { client, daybook, tasks: createTaskQueries({ daybook, client, onRefused }) };
  });

  useEffect(() => {
    const stop = new AbortController();
    tasks.follow({ signal: stop.signal }).catch((error: unknown) => {
      if (error instanceof DaybookError && [401, 403].includes(error.status)) leave();
      else setNotice(explain(error));
    });
    return () => stop.abort();
  }, [tasks]);

  const session = authClient.useSession(); // is told if another window signs out
  useEffect(() => {
    if (!session.isPending && !session.error && session.data?.user.id !== userId) leave();
  }, [session, userId]);

  return (
    <QueryClientProvider client={client}>
      <HydrationBoundary state={state}>
        <TasksContext value={{ daybook, tasks, notice, setNotice }}>{children}</TasksContext>
      </HydrationBoundary>
    </QueryClientProvider>
  );
}
// #endregion

type Refused = NonNullable<Parameters<typeof createTaskQueries>[0]["onRefused"]>;

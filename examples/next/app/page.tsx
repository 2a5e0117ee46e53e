import { dehydrate, QueryClient } from "@tanstack/react-query";
import { createDaybook } from "daybook-client";
import { createTaskQueries } from "daybook-client/tanstack";
import { headers } from "next/headers";
import { redirect } from "next/navigation";
import { TaskList } from "@/components/task-list";
import { TasksProvider } from "@/components/tasks-provider";
import { getCaller } from "@/lib/caller";
import { daybookUrl } from "@/lib/env";

/** Show the tasks. The list is in the page that the server sends. */
export default async function Page() {
  const caller = await getCaller(await headers());
  if (!caller) redirect("/sign-in");
  const { userId, name, token } = caller;
  const client = new QueryClient();
  const daybook = createDaybook({ url: daybookUrl, userId, token, attempts: 1, timeout: 3000 });
  await client.prefetchQuery(createTaskQueries({ daybook, client }).list()); // if it fails, the browser asks again
  return (
    <TasksProvider userId={userId} state={dehydrate(client)}>
      <TaskList name={name} />
    </TasksProvider>
  );
}

import { createDaybook, isProblem, MemoryStore, pages, stream, sync, verify } from "daybook-client";

declare const authClient: { token(): Promise<{ data: { token: string } | null; error: { status: number } | null }> };
declare const user: { id: string };
declare const signal: AbortSignal;

const daybook = createDaybook({
  url: "https://tasks.example.com",
  userId: user.id,
  token: async () => {
    const { data, error } = await authClient.token(); // Better Auth's
    if (data) return data.token;
    throw error?.status === 401 ? new Error("Sign in first.") : new TypeError("No network."); // which is tried again
  },
});

const { task } = await daybook.createTask({ title: "Buy milk", due_date: "2026-12-01" });
try {
  const { seq } = await daybook.updateTask(task.id, { title: "Buy oat milk" }, { ifMatch: task.version });
  if (seq) await daybook.undo({ seq }); // "Buy milk" again
} catch (error) {
  if (!isProblem(error, "/problems/precondition-failed")) throw error; // else: show what is there now
}

for await (const tasks of pages(daybook.listTasks, { status: "pending" })) console.log(tasks);
for await (const event of stream(daybook, { signal })) console.log(event.type, event.task);

const store = new MemoryStore(); // or one of your own, with two methods
sync(daybook, store, { signal }).catch(console.error); // useSyncExternalStore(store.subscribe, store.list)

const head = await daybook.getHead(); // keep it
const report = await verify(await daybook.exportLog(), { head });
console.log(report.clean, report.mismatch?.message);

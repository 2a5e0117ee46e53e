import { MutationObserver, QueryClient, QueryObserver } from "@tanstack/query-core";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Daybook, Task } from "daybook-client";
import { createTaskQueries, OfflineQueue, type Operation, type QueueStorage } from "daybook-client/tanstack";
import { answering, client, eventsOf, type Fault, proxy, tokenOf, until } from "./support.js";

function memory(): QueueStorage & { kept: Map<string, string> } {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: async (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
  };
}

/** A page with the list on it, as React would show it. */
function page(daybook: Daybook, storage: QueueStorage = memory(), query = {}) {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const refused: unknown[] = [];
  const tasks = createTaskQueries({ daybook, client: queries, storage, onRefused: (error) => refused.push(error) });
  const list = new QueryObserver(queries, tasks.list(query));
  const line = ({ title, completed }: Task) => `${title}${completed ? " ✓" : ""}`;
  const leave = list.subscribe(() => {});
  const stop = new AbortController();
  const close = () => {
    stop.abort();
    leave();
    queries.clear();
  };
  onTestFinished(close);
  return {
    tasks,
    refused,
    close,
    shown: () => (list.getCurrentResult().data ?? []).map(line),
    task: (index: number): Task => list.getCurrentResult().data![index]!,
    loaded: () => until(() => list.getCurrentResult().isSuccess),
    refetch: () => list.refetch(),
    follow: () => void tasks.follow({ signal: stop.signal }),
    create: (title: string) => new MutationObserver(queries, tasks.create()).mutate({ title }),
    update: (task: Task, title: string) =>
      new MutationObserver(queries, tasks.update()).mutate({ task, changes: { title } }),
    complete: (task: Task) => new MutationObserver(queries, tasks.complete()).mutate({ task }),
    remove: (task: Task) => new MutationObserver(queries, tasks.remove()).mutate({ task }),
  };
}

/** A client behind a proxy that does what `fault` says, and one that goes straight to the service. */
async function behind(fault: () => Fault): Promise<[Daybook, Daybook]> {
  const direct = client();
  const { userId } = direct;
  const { url } = await proxy(fault);
  return [client({ url, userId, token: tokenOf(userId), attempts: 2, pause: 1 }), direct];
}

test("writes show at once, and are as the service has them afterwards", async () => {
  const [daybook, direct] = await behind(() => "slow");
  const { create, update, complete, remove, shown, task, loaded } = page(daybook);
  await loaded();
  const created = create("Buy milk");
  await until(() => shown().length);
  expect(shown()).toEqual(["Buy milk"]);
  const updated = update(task(0), "Buy tea"); // before the first one is answered
  const completed = complete(task(0));
  await until(() => shown()[0] === "Buy tea ✓");
  await Promise.all([created, updated, completed]);
  expect((await direct.listTasks()).items).toEqual([task(0)]);
  await create("Buy oil");
  const removed = remove(task(1));
  await until(() => shown().length === 1);
  await removed;
  expect(shown()).toEqual(["Buy oil"]);
  expect((await eventsOf(direct)).map(({ type }) => type)).toEqual([
    "TaskCreated",
    "TaskUpdated",
    "TaskToggled",
    "TaskCreated",
    "TaskDeleted",
  ]);
});

test("a write that is refused since somebody else was first goes back", async () => {
  const daybook = client();
  await daybook.createTask({ title: "Buy milk" });
  const { update, shown, task, loaded, refused } = page(daybook);
  await loaded();
  const seen = task(0);
  await daybook.updateTask(seen.id, { title: "Buy tea" });
  const titles = new Set<string>();
  const call = update(seen, "Buy oil");
  await until(() => titles.add(shown()[0]!).has("Buy oil"));
  await expect(call).rejects.toMatchObject({ status: 412 });
  await until(() => shown()[0] === "Buy tea");
  expect(refused).toHaveLength(1);
});

test("events show in lists, whatever the order in which answers come", async () => {
  const daybook = client();
  const { task: milk } = await daybook.createTask({ title: "Buy milk" });
  const { task: tea } = await daybook.createTask({ title: "Buy tea" });
  let release: (() => void) | undefined;
  const late: Daybook = {
    ...daybook,
    async listTasks(...given: Parameters<Daybook["listTasks"]>) {
      const answer = await daybook.listTasks(...given);
      if (!release) await new Promise<void>((resolve) => (release = resolve)); // the first answer takes its time
      return answer;
    },
  };
  const { follow, shown, loaded, tasks } = page(late);
  await until(() => release);
  await daybook.updateTask(milk.id, { title: "Buy oat milk" }); // between the list and the first event
  let following = false;
  const { getHead } = late;
  late.getHead = (...given) => getHead(...given).finally(() => (following = true));
  follow();
  await until(() => following);
  await daybook.updateTask(tea.id, { title: "Buy green tea" });
  release!();
  await loaded();
  await until(() => shown().join() === "Buy green tea,Buy oat milk");
  await daybook.deleteTask(milk.id);
  await until(() => shown().join() === "Buy green tea");
  expect(tasks.keys.lists).toEqual(["daybook", daybook.userId, "tasks"]);
});

test("a list that is fetched again replaces what was known before", async () => {
  const daybook = client();
  await daybook.createTask({ title: "Buy milk" });
  const { update, shown, task, loaded, refetch } = page(daybook);
  await loaded();
  await update(task(0), "Buy tea");
  await daybook.updateTask(task(0).id, { title: "Buy oil" });
  await refetch();
  expect(shown()).toEqual(["Buy oil"]);
});

test("a list with a filter drops what doesn't fit any more, and gets what does", async () => {
  const daybook = client();
  const { task } = await daybook.createTask({ title: "Buy milk" });
  const { shown, follow, loaded } = page(daybook, memory(), { status: "pending" });
  await loaded();
  follow();
  await new Promise((resolve) => setTimeout(resolve, 200));
  await daybook.createTask({ title: "Buy tea" });
  await until(() => shown().length === 2);
  await daybook.completeTask(task.id);
  await until(() => shown().join() === "Buy tea");
});

test("what was done without a network survives a reload, and is done once", async () => {
  let fault: Fault = "pass";
  const [daybook, direct] = await behind(() => fault);
  await direct.createTask({ title: "Buy milk" });
  const storage = memory();
  const before = page(daybook, storage);
  await before.loaded();
  fault = "cut"; // the first one arrives, but its answer doesn't
  void before.create("Buy tea");
  await until(() => before.shown().length === 2);
  void before.complete(before.task(1));
  void before.update(before.task(0), "Buy green tea");
  await until(() => before.shown()[0] === "Buy green tea");
  await until(async () => (await before.tasks.queue.pending()).length === 3);
  expect(await before.tasks.queue.flush()).toBe(false);
  const keys = (await before.tasks.queue.pending()).map(({ key }) => key);
  expect(new Set(keys).size).toBe(3);
  before.close();
  fault = "pass";
  const after = page(daybook, storage);
  await after.loaded();
  after.follow();
  await until(() => after.shown().join() === "Buy green tea,Buy milk ✓");
  await until(async () => !(await after.tasks.queue.pending()).length);
  expect((await eventsOf(direct)).map(({ type }) => type)).toEqual([
    "TaskCreated",
    "TaskCreated",
    "TaskToggled",
    "TaskUpdated",
  ]);
});

test("two tabs share a queue, and both get their answers", async () => {
  const daybook = client();
  const storage = memory();
  const [one, two] = [page(daybook, storage), page(daybook, storage)];
  await Promise.all([one.loaded(), two.loaded()]);
  const results = await Promise.all([one.create("One"), two.create("Two"), one.create("Three")]);
  expect(new Set(results.map(({ seq }) => seq)).size).toBe(3);
  expect(await eventsOf(daybook)).toHaveLength(3);
});

test("a token that can't be got keeps the queue", async () => {
  let signedIn = false;
  const daybook = client({
    userId: "carol",
    token: () => (signedIn ? tokenOf("carol") : Promise.reject(new Error("Sign in."))),
  });
  const { create, tasks } = page(daybook);
  const created = create("Buy milk");
  await until(async () => (await tasks.queue.pending()).length === 1);
  expect(await tasks.queue.flush()).toBe(false);
  signedIn = true;
  expect(await tasks.queue.flush()).toBe(true);
  expect((await created).task?.title).toBe("Buy milk");
});

/** Have Web Locks as browsers do, for all tabs of an origin. Node 20 has none. */
function withWebLocks(): void {
  const last = new Map<string, Promise<unknown>>();
  const request = (name: string, work: () => unknown) => {
    const turn = (last.get(name) ?? Promise.resolve()).then(work);
    last.set(name, turn.catch(() => {}));
    return turn;
  };
  vi.stubGlobal("navigator", { onLine: true, locks: { request } });
  onTestFinished(() => void vi.unstubAllGlobals());
}

/** Storage as IndexedDB is: it answers later. */
function slow(): QueueStorage {
  const { getItem, setItem } = memory();
  const later = () => new Promise((resolve) => setTimeout(resolve, 1));
  return {
    getItem: async (name) => (await later(), getItem(name)),
    setItem: async (name, value) => (await later(), setItem(name, value)),
  };
}

/** Storage as `localStorage` is: it answers at once. */
function fast(): QueueStorage {
  const { kept, setItem } = memory();
  return { getItem: (name) => kept.get(name) ?? null, setItem };
}

function creation(title: string): Operation {
  return { op: "create", key: `key of ${title}`, id: `id of ${title}`, task: { title }, at: "" };
}

const titlesOf = async (queue: OfflineQueue) =>
  (await queue.pending()).map((each) => (each.op === "create" ? each.task.title : each.op));

test.each([
  ["that answers later, with Web Locks", slow, withWebLocks],
  ["that answers at once, with Web Locks", fast, withWebLocks],
  ["that answers at once, without Web Locks", fast, () => {}],
])("two tabs that store at the same moment lose nothing, in storage %s", async (_, make, prepare) => {
  prepare();
  const { daybook } = answering(() => Promise.reject(new TypeError("offline")), { attempts: 1 });
  const storage = make();
  const [one, two] = [new OfflineQueue(daybook, { storage }), new OfflineQueue(daybook, { storage })];
  for (const title of ["One", "Two", "Three"]) {
    void one.add(creation(title));
    void two.add(creation(`${title} too`));
  }
  await until(async () => (await titlesOf(one)).includes("Three") && (await titlesOf(one)).includes("Three too"));
  const titles = await titlesOf(one);
  expect(titles.filter((title) => !title.endsWith("too"))).toEqual(["One", "Two", "Three"]);
  expect(titles.filter((title) => title.endsWith("too"))).toEqual(["One too", "Two too", "Three too"]);
});

test("an operation is stored while another tab's is on its way", async () => {
  withWebLocks();
  const { daybook, seen } = answering(() => new Promise<Response>(() => {}), { attempts: 1 });
  const storage = slow();
  const [one, two] = [new OfflineQueue(daybook, { storage }), new OfflineQueue(daybook, { storage })];
  void one.add(creation("One"));
  await until(() => seen.length);
  void two.add(creation("Two"));
  await until(async () => (await titlesOf(two)).join() === "One,Two");
});

/** Two tabs with a queue each, behind a proxy that passes nothing on whose title is `walled`. */
function walled(status: number) {
  withWebLocks();
  const { daybook, seen } = answering(
    async (request) => {
      const { id, title } = (await request.clone().json()) as { id?: string; title?: string };
      if (title === "walled") return new Response("<html>", { status });
      return Response.json({ id: id ?? "x", version: 1 }, { status: 201, headers: { "Daybook-Seq": "1" } });
    },
    { attempts: 1 },
  );
  const storage = slow();
  const tab = () => {
    const ended: string[] = [];
    const onEnd = (operation: Operation, result: unknown, error: unknown) =>
      ended.push(`${operation.key}: ${result ? "done" : (error as Error).name}`);
    return { queue: new OfflineQueue(daybook, { storage, onEnd }), ended };
  };
  return { one: tab(), two: tab(), seen };
}

test.each([403, 413, 500, 521])("a queue tells which operation is in the way, and why (%d)", async (status) => {
  const { one } = walled(status);
  const told: unknown[] = [];
  const leave = one.queue.subscribe(() => told.push(one.queue.status()));
  const first = one.queue.add(creation("walled"));
  const second = one.queue.add(creation("Two"));
  await until(() => one.queue.status());
  expect(one.queue.status()).toMatchObject({ operation: creation("walled"), error: { status } });
  expect(await one.queue.flush()).toBe(false);
  expect(await titlesOf(one.queue)).toEqual(["walled", "Two"]);
  expect(await one.queue.discard("key of walled")).toEqual([creation("walled")]);
  await expect(first).rejects.toMatchObject({ name: "AbortError" });
  expect((await second).task?.id).toBe("id of Two");
  expect([one.queue.status(), told.at(-1)]).toEqual([null, null]);
  expect(one.ended).toEqual(["key of walled: AbortError", "key of Two: done"]);
  const calls = told.length;
  leave();
  await expect(one.queue.discard("key of Two")).resolves.toEqual([]);
  expect(told).toHaveLength(calls);
});

test("what one tab discards, the other tab that waits for it doesn't send", async () => {
  const { one, two, seen } = walled(403);
  const first = one.queue.add(creation("walled"));
  await until(() => one.queue.status());
  await two.queue.discard("key of walled");
  const sent = seen.length;
  const rejected = expect(first).rejects.toMatchObject({ name: "AbortError" });
  expect(await one.queue.flush()).toBe(true);
  await rejected;
  expect(seen).toHaveLength(sent);
  expect(one.queue.status()).toBeNull();
});

test("a task that can't be created is discarded with what was done to it", async () => {
  const { one } = walled(403);
  const { id } = creation("walled");
  const promises = [
    one.queue.add(creation("walled")),
    one.queue.add({ op: "complete", key: "k", id, completed: true }),
    one.queue.add(creation("Two")),
  ];
  await until(async () => (await titlesOf(one.queue)).length === 3);
  const ended = Promise.allSettled(promises);
  expect((await one.queue.discard("key of walled")).map(({ key }) => key)).toEqual(["key of walled", "k"]);
  expect((await ended).map((each) => each.status)).toEqual(["rejected", "rejected", "fulfilled"]);
});

test("a write that the app discards goes back in the lists, and isn't told as refused", async () => {
  const [daybook] = await behind(() => "busy");
  const direct = client({ userId: daybook.userId });
  const { create, shown, tasks, loaded, refused } = page({ ...daybook, listTasks: direct.listTasks });
  await loaded();
  const created = create("Buy milk");
  const ended = expect(created).rejects.toMatchObject({ name: "AbortError" });
  await until(() => tasks.queue.status());
  expect(shown()).toEqual(["Buy milk"]);
  await tasks.queue.discard(tasks.queue.status()!.operation.key);
  await ended;
  expect([shown(), refused]).toEqual([[], []]);
});

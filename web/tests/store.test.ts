import { createDaybook, type Task } from "daybook-client";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import type { Waiting } from "../src/model/changes";
import { keptIn } from "../src/model/kept";
import { createStore } from "../src/model/store";
import { taskOf } from "./support";

beforeEach(() => {
  vi.stubGlobal("document", Object.assign(new EventTarget(), { hidden: false }));
  vi.stubGlobal("addEventListener", () => {});
  return () => vi.unstubAllGlobals();
});

const json = (body: unknown, status = 200) => Response.json(body, { status });
const html = (status: number) => new Response("<html>", { status, headers: { "Content-Type": "text/html" } });
const problem = (type: string, status: number) =>
  json({ type: `/problems/${type}`, title: type, detail: `It is ${type}.`, status }, status);

/** A store that follows a service with these tasks. `before` may answer in its place: it is told method and path. */
function following(tasks: Task[], before: (asked: string) => Response | undefined = () => undefined) {
  const there = new Map(tasks.map((task) => [task.id, task]));
  const sent: string[] = [];
  const answer = async (request: Request): Promise<Response> => {
    const asked = `${request.method} ${new URL(request.url).pathname.replace("/api/ann", "")}`;
    const instead = before(asked);
    if (instead) return instead;
    if (asked === "GET /audit/head") return json({ seq: 9, hash: "", at: null });
    if (asked === "GET /audit/stream")
      return new Response(new ReadableStream({}), { headers: { "Content-Type": "text/event-stream" } });
    if (asked === "GET /tasks") return json([...there.values()]);
    const task = there.get(asked.split("/")[2]!);
    if (!task) return problem("task-not-found", 404);
    if (request.method === "GET") return json(task);
    const body = await request.text();
    const stale = request.headers.get("If-Match") !== `"${task.version}"`;
    sent.push(`${body} ${stale ? "refused" : "made"}`);
    if (stale) return problem("precondition-failed", 412);
    there.set(task.id, { ...task, ...(JSON.parse(body) as Partial<Task>), version: task.version + 1 });
    return json(there.get(task.id));
  };
  const fetch = (request: RequestInfo | URL) => answer(request as Request);
  const daybook = createDaybook({ url: "http://daybook", userId: "ann", token: "t", attempts: 1, fetch });
  const store = createStore({ userId: "ann" });
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  return { store, sent, there, follow: () => void store.follow(daybook, stop.signal) };
}

test("follows the service again after a proxy has answered in its place", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const pages = [html(404), html(403), html(200), html(521)];
  const { store, follow } = following([taskOf()], () => pages.shift());
  follow();
  for (let left = 4; left > 0; left--) {
    await vi.waitFor(() => expect([pages.length, store.offline.value]).toEqual([left - 1, true]));
    await vi.advanceTimersByTimeAsync(2000);
  }
  await vi.waitFor(() => expect(store.loaded.value).toBe(true));
  expect([store.failure.value, store.offline.value]).toEqual(["", false]);
  expect(store.tasks.value).toEqual([taskOf()]);
});

test("says so if Daybook refuses to let anybody read", async () => {
  const { store, follow } = following([], () => problem("not-yours", 403));
  follow();
  await vi.waitFor(() => expect(store.failure.value).toBe("It is not-yours."));
});

test("tells why a change waits that something else than Daybook refuses, and goes on without it", async () => {
  let refusing = true;
  const { store, sent, follow } = following([taskOf()], (asked) =>
    refusing && asked === "PATCH /tasks/a" ? html(413) : undefined,
  );
  follow();
  const key = store.submit({ op: "update", id: "a", fields: { description: "long" } }, taskOf());
  await vi.waitFor(() => expect(store.blocked.value).toBe("The tasks can't be reached (413)."));
  expect(store.offline.value).toBe(false);
  store.submit({ op: "complete", id: "a", completed: true }, taskOf());
  store.discard(key);
  expect(store.toasts.value.map(({ text }) => text)).toEqual(["“Buy milk”: one change discarded."]);
  await vi.waitFor(() => expect(sent).toEqual(['{"completed":true} made']));
  expect([store.blocked.value, store.pending.value]).toEqual(["", []]);
  refusing = false;
  store.toasts.value[0]!.action!.run();
  await vi.waitFor(() => expect(sent).toEqual(['{"completed":true} made', '{"description":"long"} made']));
});

/** Three changes of a task that has changed elsewhere since the user saw it. */
function changeAll(store: ReturnType<typeof createStore>, seen: Task) {
  store.submit({ op: "update", id: "a", fields: { description: "an hour of typing" } }, seen);
  store.submit({ op: "update", id: "a", fields: { tags: ["home"] } }, seen);
  store.submit({ op: "complete", id: "a", completed: true }, seen);
}

const CHANGES = ['{"description":"an hour of typing"}', '{"tags":["home"]}', '{"completed":true}'];

test("makes all changes anyway, in order, that were refused with the first one", async () => {
  const { store, sent, there, follow } = following([taskOf({ version: 6 })]);
  changeAll(store, taskOf({ version: 5 }));
  follow();
  await vi.waitFor(() => expect(store.toasts.value).toHaveLength(1));
  const { text, action } = store.toasts.value[0]!;
  expect(text).toBe("“Buy milk” was changed elsewhere, so your 3 changes weren't made.");
  expect(action?.name).toBe("Make them anyway");
  action!.run();
  await vi.waitFor(() => expect(store.pending.value).toEqual([]));
  expect(sent).toEqual([`${CHANGES[0]} refused`, ...CHANGES.map((each) => `${each} made`)]);
  const { version, description, tags, completed } = there.get("a")!;
  expect([version, description, tags, completed]).toEqual([9, "an hour of typing", ["home"], true]);
});

test("offers what came after a change that is refused for what it says", async () => {
  const { store, sent, follow } = following([taskOf()], (asked) =>
    asked === "PATCH /tasks/a" && !sent.length && store.pending.value.length === 3 ? problem("invalid", 422) : undefined,
  );
  changeAll(store, taskOf());
  follow();
  await vi.waitFor(() => expect(store.toasts.value).toHaveLength(1));
  const { text, action } = store.toasts.value[0]!;
  expect(text).toBe("“Buy milk”: It is invalid. What you did to it later wasn't done either (2 changes).");
  action!.run();
  await vi.waitFor(() => expect(sent).toEqual(CHANGES.slice(1).map((each) => `${each} made`)));
});

test("tells how much was refused of a task that was deleted elsewhere", async () => {
  const { store, follow } = following([]);
  changeAll(store, taskOf());
  follow();
  await vi.waitFor(() => expect(store.toasts.value).toHaveLength(1));
  const { text, action } = store.toasts.value[0]!;
  expect(text).toBe("“Buy milk” was deleted elsewhere, so your 3 changes weren't made.");
  expect(action).toBeUndefined();
});

test("doesn't take a task for deleted if a proxy has no page for it", async () => {
  const { store, sent, follow } = following([taskOf({ version: 6 })], (asked) =>
    asked === "GET /tasks/a" ? html(404) : undefined,
  );
  follow();
  await vi.waitFor(() => expect(store.loaded.value).toBe(true));
  store.submit({ op: "complete", id: "a", completed: true }, taskOf({ version: 5 }));
  await vi.waitFor(() => expect(store.toasts.value.at(-1)?.stays).toBe(true));
  expect(store.tasks.value).toEqual([taskOf({ version: 6 })]);
  const { text, action } = store.toasts.value.at(-1)!;
  expect(text).toBe("“Buy milk” was changed elsewhere, so your change wasn't made.");
  action!.run();
  await vi.waitFor(() => expect(sent.at(-1)).toBe('{"completed":true} made'));
});

/** The tab's storage; `room` is how many characters a value may have. */
function storage(room = Infinity) {
  const kept = new Map<string, string>();
  const tab = {
    getItem: (name: string) => kept.get(name) ?? null,
    removeItem: (name: string) => void kept.delete(name),
    setItem(name: string, value: string) {
      if (value.length > room) throw new DOMException("It is full.", "QuotaExceededError");
      kept.set(name, value);
    },
  };
  return { kept, tab: tab as unknown as Storage };
}

test("leaves nothing of what waits in the tab after the user has signed out", async () => {
  const { kept, tab } = storage();
  const store = createStore({ userId: "ann", ...keptIn(tab, "ann") });
  store.submit({ op: "create", id: "a", fields: { title: "Nobody's business" } }, null);
  store.submit({ op: "complete", id: "a", completed: true }, null);
  expect(keptIn(tab, "ann").waiting.map(({ change }: Waiting) => change.op)).toEqual(["create", "complete"]);
  store.forget();
  expect([store.pending.value, [...kept]]).toEqual([[], []]);
});

test("tells whether changes would be lost with the tab", async () => {
  const { tab } = storage();
  const store = createStore({ userId: "ann", ...keptIn(tab, "ann") });
  store.offline.value = true;
  expect(store.atRisk.value).toBe(false); // nothing waits
  store.submit({ op: "complete", id: "a", completed: true }, taskOf());
  expect(store.atRisk.value).toBe(true);
  store.offline.value = false;
  expect(store.atRisk.value).toBe(false); // it is on its way
  store.blocked.value = "The tasks can't be reached (413).";
  expect(store.atRisk.value).toBe(true);
});

test("goes on with what waits if the tab's storage is full, and tells that it would be lost", async () => {
  const { tab } = storage(10);
  const store = createStore({ userId: "ann", ...keptIn(tab, "ann") });
  store.submit({ op: "complete", id: "a", completed: true }, taskOf());
  expect([store.pending.value.length, store.atRisk.value]).toEqual([1, true]);
});

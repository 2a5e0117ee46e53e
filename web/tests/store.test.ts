import { createDaybook, type Task } from "daybook-client";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
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

test("keeps a task on the screen if a proxy has no page for it", async () => {
  const { store, follow } = following([taskOf()], (asked) => (asked === "GET /tasks/a" ? html(404) : undefined));
  follow();
  await vi.waitFor(() => expect(store.loaded.value).toBe(true));
  expect(await store.refresh("a")).toBeNull();
  expect(store.tasks.value).toEqual([taskOf()]);
});

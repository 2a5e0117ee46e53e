import { createDaybook } from "daybook-client";
import { expect, test, vi } from "vitest";
import { withWaiting, type Waiting } from "../src/model/changes";
import { TaskCopy } from "../src/model/copy";
import { Outbox, type Made } from "../src/model/outbox";
import { taskOf } from "./support";

interface Sent {
  method: string;
  path: string;
  key: string | null;
  ifMatch: string | null;
}

type Reply = (sent: Sent) => Response | Promise<Response>;

const json = (body: unknown, status = 200, headers = {}) =>
  new Response(body === null ? null : JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/json", ...headers },
  });
const problem = (type: string, status: number) =>
  json({ type: `/problems/${type}`, detail: type, title: type, status }, status);

/** An outbox, and a service that answers with each of the replies in turn. */
function outboxWith(replies: Reply[], waiting: Waiting[] = [], pause = 1) {
  const sent: Sent[] = [];
  const daybook = createDaybook({
    url: "http://daybook",
    userId: "ann",
    token: "t",
    attempts: 1,
    fetch: async (request) => {
      const { method, url, headers } = request as Request;
      const each = {
        method,
        path: new URL(url).pathname,
        key: headers.get("Idempotency-Key"),
        ifMatch: headers.get("If-Match"),
      };
      sent.push(each);
      return replies.shift()!(each);
    },
  });
  const made: Made[] = [];
  const refused: string[][] = [];
  const held: unknown[] = [];
  const outbox = new Outbox(
    waiting,
    {
      changed: () => {},
      made: (_, each) => made.push(each),
      refused: (chain, error) => refused.push([(error as Error).message, ...chain.map(({ change }) => change.op)]),
      held: (error) => held.push(error),
    },
    pause,
  );
  return { outbox, daybook, sent, made, refused, held, signal: new AbortController() };
}

test("sends changes of one task one after the other, each on the version before it", async () => {
  const replies = [5, 6].map((version) => () => json(taskOf({ version })));
  const { outbox, daybook, sent, signal } = outboxWith([...replies, () => json(null, 204)]);
  const seen = taskOf({ version: 4 });
  outbox.add({ op: "complete", id: "a", completed: true }, seen);
  outbox.add({ op: "update", id: "a", fields: { title: "B" } }, seen);
  outbox.add({ op: "delete", id: "a" }, seen);
  await outbox.send(daybook, signal.signal);
  expect(sent.map(({ ifMatch }) => ifMatch)).toEqual(['"4"', '"5"', '"6"']);
  expect(outbox.waiting).toEqual([]);
});

test("sends the same key again after the network was away, and says so", async () => {
  const away = () => Promise.reject(new TypeError("offline"));
  const { outbox, daybook, sent, made, held, signal } = outboxWith([away, away, () => json(taskOf(), 201)]);
  outbox.add({ op: "create", id: "a", fields: { title: "Buy milk" } }, null);
  await outbox.send(daybook, signal.signal);
  expect(new Set(sent.map(({ key }) => key)).size).toBe(1);
  expect(sent).toHaveLength(3);
  expect(held).toEqual([new TypeError("offline"), new TypeError("offline"), null]);
  expect(made).toEqual([{ task: taskOf(), seq: null, version: 1 }]);
});

test("takes back what follows on a change that is refused, tells all of it, and goes on with other tasks", async () => {
  const { outbox, daybook, sent, refused, signal } = outboxWith([
    () => problem("precondition-failed", 412),
    () => json(taskOf({ id: "b", version: 2 })),
  ]);
  outbox.add({ op: "complete", id: "a", completed: true }, taskOf());
  outbox.add({ op: "complete", id: "b", completed: true }, taskOf({ id: "b" }));
  outbox.add({ op: "update", id: "a", fields: { title: "B" } }, taskOf());
  await outbox.send(daybook, signal.signal);
  expect(refused).toEqual([["precondition-failed", "complete", "update"]]);
  expect(sent.map(({ path }) => path.split("/").at(-2))).toEqual(["a", "b"]);
  expect(outbox.waiting).toEqual([]);
});

test("keeps everything if the token is refused, for the next one", async () => {
  const { outbox, daybook, refused, signal } = outboxWith([() => problem("not-authenticated", 401)]);
  outbox.add({ op: "complete", id: "a", completed: true }, taskOf());
  await outbox.send(daybook, signal.signal);
  expect(outbox.waiting).toHaveLength(1);
  const next = outboxWith([() => json(taskOf({ version: 2 }))], [...outbox.waiting]);
  await next.outbox.send(next.daybook, next.signal.signal);
  expect(next.sent[0]!.key).toBe(outbox.waiting[0]!.key);
  expect(refused).toEqual([]);
});

test("goes on after a reload where it was, on the version that the last answer had", async () => {
  const first = outboxWith([() => json(taskOf({ version: 5 })), () => problem("not-authenticated", 401)]);
  first.outbox.add({ op: "complete", id: "a", completed: true }, taskOf({ version: 4 }));
  first.outbox.add({ op: "update", id: "a", fields: { title: "B" } }, taskOf({ version: 4 }));
  await first.outbox.send(first.daybook, first.signal.signal);
  const kept = JSON.parse(JSON.stringify(first.outbox.waiting)) as Waiting[];
  const next = outboxWith([() => json(taskOf({ version: 6 }))], kept);
  await next.outbox.send(next.daybook, next.signal.signal);
  expect(next.sent.map(({ ifMatch }) => ifMatch)).toEqual(['"5"']);
});

test("sends with the next token what was on its way when the one before ended", async () => {
  const { outbox, daybook, sent, signal } = outboxWith([
    () => new Promise((_, reject) => signal.signal.addEventListener("abort", () => reject(signal.signal.reason))),
    () => json(taskOf({ version: 2 })),
  ]);
  outbox.add({ op: "complete", id: "a", completed: true }, taskOf());
  const ended = outbox.send(daybook, signal.signal);
  const next = outbox.send(daybook, new AbortController().signal);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  signal.abort();
  await Promise.all([ended, next]);
  expect(sent.map(({ key }) => key)).toEqual([sent[0]!.key, sent[0]!.key]);
  expect(outbox.waiting).toEqual([]);
});

test("lets what follows on a change that is taken back follow on the one before", async () => {
  const { outbox, daybook, sent, signal } = outboxWith([() => json(taskOf({ version: 5 }))]);
  const key = outbox.add({ op: "delete", id: "a" }, taskOf({ version: 4 }));
  outbox.add({ op: "update", id: "a", fields: { title: "B" } }, taskOf({ version: 4 }));
  expect(outbox.drop(key)).toBe(true);
  await outbox.send(daybook, signal.signal);
  expect(sent.map(({ ifMatch }) => ifMatch)).toEqual(['"4"']);
});

test("doesn't take the user's own changes for somebody else's, in a form that was opened before they were made", async () => {
  const { outbox, daybook, sent, signal } = outboxWith([
    () => json(taskOf({ version: 1 }), 201),
    () => json(taskOf({ version: 2 })),
    () => json(null, 204),
    () => json(taskOf({ version: 4 })),
    () => json(taskOf({ version: 5 })),
  ]);
  const seen = taskOf({ version: 0 }); // as it is shown before the service has answered
  const change = async (...[each, task]: Parameters<typeof outbox.add>) => {
    outbox.add(each, task);
    await outbox.send(daybook, signal.signal);
  };
  await change({ op: "create", id: "a", fields: { title: "Buy milk" } }, null);
  await change({ op: "complete", id: "a", completed: true }, seen);
  await change({ op: "delete", id: "a" }, seen);
  await change({ op: "restore", id: "a", task: taskOf({ version: 2 }) }, null);
  await change({ op: "update", id: "a", fields: { title: "B" } }, seen);
  expect(sent.map(({ ifMatch }) => ifMatch)).toEqual([null, '"1"', '"2"', null, '"4"']);
});

test("still refuses to overwrite what somebody else has changed after the user's own change", async () => {
  const { outbox, daybook, sent, signal } = outboxWith([
    () => json(taskOf({ version: 5 })),
    () => problem("precondition-failed", 412),
  ]);
  outbox.add({ op: "complete", id: "a", completed: true }, taskOf({ version: 4 }));
  await outbox.send(daybook, signal.signal);
  outbox.add({ op: "update", id: "a", fields: { title: "B" } }, taskOf({ version: 4 }));
  await outbox.send(daybook, signal.signal);
  expect(sent.map(({ ifMatch }) => ifMatch)).toEqual(['"4"', '"5"']);
});

test("takes back a change that isn't on its way yet", () => {
  const { outbox } = outboxWith([]);
  const key = outbox.add({ op: "delete", id: "a" }, taskOf());
  expect(outbox.drop(key)).toBe(true);
  expect(outbox.drop(key)).toBe(false);
});

test("shows tasks as they will be", () => {
  const { outbox } = outboxWith([]);
  outbox.add({ op: "create", id: "b", fields: { title: "New" } }, null);
  outbox.add({ op: "complete", id: "b", completed: true }, null);
  outbox.add({ op: "delete", id: "a" }, taskOf());
  outbox.add({ op: "update", id: "gone", fields: { title: "x" } }, null);
  const shown = withWaiting(new Map([["a", taskOf()]]), outbox.waiting, "ann");
  expect(shown.map(({ id, title, completed }) => [id, title, completed])).toEqual([["b", "New", true]]);
});

test("moves only forward, in whatever order answers and events come", () => {
  const copy = new TaskCopy();
  expect(copy.put(taskOf({ version: 2 }))).toBe(true);
  expect(copy.put(taskOf({ version: 1 }))).toBe(false);
  expect(copy.remove("a", 2)).toBe(false);
  expect(copy.remove("a", 3)).toBe(true);
  expect(copy.put(taskOf({ version: 2 }))).toBe(false);
  expect(copy.put(taskOf({ version: 4 }))).toBe(true);
  expect(copy.tasks.get("a")?.version).toBe(4);
});

test("waits as long as the service asks for", async () => {
  const limited = { type: "/problems/rate-limited", title: "", detail: "", status: 429 };
  const replies = [() => json(limited, 429, { "Retry-After": "0" }), () => json(taskOf(), 201)];
  const { outbox, daybook, sent, signal } = outboxWith(replies, [], 1_000_000);
  outbox.add({ op: "create", id: "a", fields: { title: "Buy milk" } }, null);
  await outbox.send(daybook, signal.signal);
  expect(sent).toHaveLength(2);
});

test("takes back what Daybook refuses for another reason, too", async () => {
  const { outbox, daybook, refused, held, signal } = outboxWith([() => problem("invalid", 422)]);
  outbox.add({ op: "update", id: "a", fields: { title: "" } }, taskOf());
  await outbox.send(daybook, signal.signal);
  expect(refused).toEqual([["invalid", "update"]]);
  expect(held).toEqual([null]);
});

const page = (status: number) => () =>
  new Response("<html>", { status, headers: { "Content-Type": "text/html" } });

test.each<[string, () => Response]>([
  ["an ingress without a service behind it", page(404)],
  ["a firewall", page(403)],
  ["a proxy's bound on sizes", page(413)],
  ["a CDN whose origin is down", page(521)],
  ["a CDN whose origin is slow", page(522)],
  ["a captive portal", page(200)],
  ["a captive portal with a document", () => json({ login: "https://portal.test" })],
  ["a failure of Daybook's own", () => problem("internal-server-error", 500)],
])("loses nothing by an answer that refuses nothing: %s", async (_, answer) => {
  const { outbox, daybook, sent, made, refused, held, signal } = outboxWith([
    answer,
    answer,
    () => json(taskOf(), 201),
    () => json(taskOf({ version: 2 })),
  ]);
  outbox.add({ op: "create", id: "a", fields: { title: "Written offline" } }, null);
  outbox.add({ op: "complete", id: "a", completed: true }, null);
  await outbox.send(daybook, signal.signal);
  expect(refused).toEqual([]);
  expect(made.map(({ version }) => version)).toEqual([1, 2]);
  expect(sent.slice(0, 3).map(({ key }) => key)).toEqual(Array(3).fill(sent[0]!.key));
  expect(held).toEqual([expect.any(Error), expect.any(Error), null, null]);
});

test("goes on without a change that can't be sent, once the user gives it up", async () => {
  const { outbox, daybook, sent, held, signal } = outboxWith(
    [page(413), () => json(taskOf({ version: 5 })), () => json(taskOf({ id: "b", version: 2 }))],
    [],
    1_000_000,
  );
  const key = outbox.add({ op: "update", id: "a", fields: { description: "long" } }, taskOf({ version: 4 }));
  outbox.add({ op: "complete", id: "a", completed: true }, taskOf({ version: 4 }));
  outbox.add({ op: "complete", id: "b", completed: true }, taskOf({ id: "b" }));
  const sending = outbox.send(daybook, signal.signal);
  await vi.waitFor(() => expect(held).toHaveLength(1));
  expect(outbox.discard(key).map((each) => each.key)).toEqual([key]);
  await sending;
  expect(sent.map(({ ifMatch }) => ifMatch)).toEqual(['"4"', '"4"', '"1"']);
  expect(outbox.discard(key)).toEqual([]);
});

test("gives up a task that can't be created with all that was done to it", async () => {
  const { outbox, daybook, held, signal } = outboxWith([page(403)], [], 1_000_000);
  const key = outbox.add({ op: "create", id: "a", fields: { title: "Buy milk" } }, null);
  outbox.add({ op: "complete", id: "a", completed: true }, null);
  const sending = outbox.send(daybook, signal.signal);
  await vi.waitFor(() => expect(held).toHaveLength(1));
  expect(outbox.discard(key).map(({ change }) => change.op)).toEqual(["create", "complete"]);
  await sending;
  expect(outbox.waiting).toEqual([]);
});

test("doesn't wait for a change that was given up while it was on its way", async () => {
  let answer = (_: Response) => {};
  const asked = () => new Promise<Response>((resolve) => (answer = resolve));
  const { outbox, daybook, sent, held, refused, signal } = outboxWith([asked], [], 1_000_000);
  const key = outbox.add({ op: "complete", id: "a", completed: true }, taskOf());
  const sending = outbox.send(daybook, signal.signal);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  outbox.discard(key);
  answer(page(403)());
  await sending;
  expect([held, refused]).toEqual([[null], []]);
});

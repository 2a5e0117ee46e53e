import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { all, DaybookError, isProblem, isRefusal, newKey, pages } from "daybook-client";
import { answering, client, eventsOf, type Fault, lots, problem, proxy, tokenOf } from "./support.js";

const source = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

test("does all that the service can do", async () => {
  const daybook = client();
  const { task, seq, etag, replayed } = await daybook.createTask({ title: "Buy milk", tags: ["home"] });
  expect([task.title, task.version, seq, replayed]).toEqual(["Buy milk", 1, 1, false]);
  expect((await daybook.getTask(task.id)).tags).toEqual(["home"]);
  expect((await daybook.updateTask(task.id, { title: "Buy tea" }, { ifMatch: etag! })).task.version).toBe(2);
  expect((await daybook.completeTask(task.id, true, { ifMatch: 2 })).task.completed).toBe(true);
  expect((await daybook.completeTask(task.id)).seq).toBeNull();
  expect((await daybook.undo({})).task?.completed).toBe(false);
  expect((await daybook.deleteTask(task.id)).task).toBeNull();
  expect((await daybook.restoreTask(task.id, { version: 1 })).task.title).toBe("Buy milk");
  const { results } = await daybook.batch({
    operations: [
      { op: "create", title: "One" },
      { op: "delete", id: task.id },
    ],
  });
  expect(results.map((each) => each.seq)).toEqual([7, 8]);
  expect((await daybook.countTasks()).total).toBe(1);
  const as_of = (await daybook.getHistory(task.id)).items[0]!.at;
  const plan = await daybook.restoreAll({ as_of, dry_run: true });
  expect((await daybook.restoreAll({ as_of }, { ifMatch: plan.etag! })).changes).toHaveLength(plan.changes.length);
  expect((await daybook.getHead()).seq).toBe((await eventsOf(daybook)).length);
});

test("erases a task, or all of a user's content, and says why", async () => {
  const { seen, daybook } = answering(() => new Response(null, { status: 204, headers: { "Daybook-Seq": "7" } }));
  const made = { task: null, seq: 7, etag: null, replayed: false };
  expect(await daybook.eraseTask("a", { reason: "Ann asked for it" }, { key: "k" })).toEqual(made);
  await daybook.eraseTask("a");
  expect(await daybook.eraseUser({ confirm: "ann" })).toEqual(made);
  const sent = seen.map(async (request) => [request.method, new URL(request.url).pathname, await request.json()]);
  expect(await Promise.all(sent)).toEqual([
    ["POST", "/api/ann/tasks/a/erase", { reason: "Ann asked for it" }],
    ["POST", "/api/ann/tasks/a/erase", {}],
    ["DELETE", "/api/ann", { confirm: "ann" }],
  ]);
  const keys = seen.map(({ headers }) => headers.get("Idempotency-Key"));
  expect(keys[0]).toBe("k");
  expect(new Set(keys).size).toBe(3);
});

test("tells apart what was erased and what isn't deleted yet", async () => {
  const refused = async (type: string, status: number) => {
    const { daybook } = answering(() => problem(type, status));
    return daybook.eraseTask("a").catch((error: unknown) => error);
  };
  expect(isProblem(await refused("erased", 410), "/problems/erased")).toBe(true);
  expect(isProblem(await refused("not-deleted", 409), "/problems/not-deleted")).toBe(true);
});

test("a key that is kept makes a write once", async () => {
  const daybook = client();
  const key = newKey();
  const first = await daybook.createTask({ title: "Once" }, { key });
  const again = await daybook.createTask({ title: "Once" }, { key });
  expect(again).toEqual({ ...first, replayed: true });
  expect((await daybook.listTasks()).items).toHaveLength(1);
});

test("each thing that the user does leaves exactly one event, whatever happens on the way", async () => {
  const draw = lots(7);
  const kinds: Fault[] = ["pass", "cut", "part", "busy", "twice", "slow"];
  const sent: string[] = [];
  const faults: Fault[] = [];
  const { url } = await proxy((message) => {
    if (message.method === "GET") return "pass";
    sent.push(String(message.headers["idempotency-key"]));
    faults.push(kinds[Math.floor(draw() * kinds.length)]!);
    return faults.at(-1)!;
  });
  const daybook = client({ url, attempts: 20, timeout: 500, pause: 1 });
  const made: string[] = [];
  for (let number = 0; number < 20; number++) {
    const id = made[Math.floor(draw() * made.length)];
    const title = `Task ${number}`;
    if (id === undefined || draw() < 0.4) made.push((await daybook.createTask({ title })).task.id);
    else if (draw() < 0.8) await daybook.updateTask(id, { title });
    else made.splice(made.indexOf(id), (await daybook.deleteTask(id)).task ?? 1);
  }
  expect(new Set(faults)).toEqual(new Set(kinds));
  expect(await eventsOf(client({ userId: daybook.userId, token: tokenOf(daybook.userId) }))).toHaveLength(20);
  expect(new Set(sent).size).toBe(20);
  expect(sent.length).toBeGreaterThan(25);
});

test("a refused token is replaced once, by one request for all", async () => {
  let asked = 0;
  const token = async () => `token-${++asked}`;
  const { seen, daybook } = answering(
    ({ headers }) =>
      headers.get("Authorization") === "Bearer token-1" ? problem("not-authenticated", 401) : Response.json([]),
    { token },
  );
  await Promise.all([daybook.listTasks(), daybook.listTasks(), daybook.listTasks()]);
  expect([asked, seen.length]).toEqual([2, 6]);
  await daybook.listTasks();
  expect(asked).toBe(2);
});

test("a token that stays bad is an error after one more try, and a fixed one at once", async () => {
  let asked = 0;
  const refuse = () => problem("not-authenticated", 401);
  const asking = answering(refuse, { token: () => `token-${++asked}` });
  await expect(asking.daybook.listTasks()).rejects.toMatchObject({ status: 401 });
  expect([asked, asking.seen.length]).toEqual([2, 2]);
  const fixed = answering(refuse);
  await expect(fixed.daybook.listTasks()).rejects.toMatchObject({ status: 401 });
  expect(fixed.seen).toHaveLength(1);
});

test("a token that can't be got is an error, and asked for anew by the next request", async () => {
  let asked = 0;
  const token = () => (++asked === 1 ? Promise.reject(new Error("Sign in first.")) : "token");
  const { daybook } = answering(() => Response.json([]), { token });
  await expect(daybook.listTasks()).rejects.toThrow("Sign in first.");
  expect((await daybook.listTasks()).items).toEqual([]);
});

test("only 503 with Retry-After and network errors are tried again, with the same key", async () => {
  const answers = [
    () => problem("overloaded", 503, { "Retry-After": "0" }),
    () => Promise.reject(new TypeError("fetch failed")),
    () => Response.json({ id: "1", version: 1 }, { status: 201 }),
  ];
  const { seen, daybook } = answering(() => answers[seen.length - 1]!());
  await daybook.createTask({ title: "Buy milk" });
  expect(new Set(seen.map(({ headers }) => headers.get("Idempotency-Key"))).size).toBe(1);
  expect(await Promise.all(seen.map((request) => request.json()))).toEqual(Array(3).fill({ title: "Buy milk" }));
  for (const [type, status] of [
    ["unavailable", 503],
    ["too-many-streams", 429],
    ["internal-server-error", 500],
  ] as const) {
    const once = answering(() => problem(type, status));
    await expect(once.daybook.createTask({ title: "x" })).rejects.toMatchObject({ status });
    expect(once.seen).toHaveLength(1);
  }
});

test("a write without a key isn't tried again after a network error", async () => {
  const { seen, daybook } = answering(() => Promise.reject(new TypeError("fetch failed")));
  const write = daybook.api.POST("/api/{user_id}/tasks", {
    params: { path: { user_id: "ann" } },
    body: { title: "x" },
  });
  await expect(write).rejects.toThrow("fetch failed");
  expect(seen).toHaveLength(1);
});

test("retries are bounded in number and time, and end when they are aborted", async () => {
  const few = answering(() => problem("overloaded", 503, { "Retry-After": "0" }), { attempts: 3 });
  await expect(few.daybook.listTasks()).rejects.toMatchObject({ status: 503 });
  expect(few.seen).toHaveLength(3);
  const long = answering(() => problem("overloaded", 503, { "Retry-After": "3600" }));
  await expect(long.daybook.listTasks()).rejects.toMatchObject({ retryAfter: 3_600_000 });
  expect(long.seen).toHaveLength(1);
  const waiting = answering(() => problem("overloaded", 503, { "Retry-After": "30" }));
  const stop = new AbortController();
  const call = waiting.daybook.listTasks({}, { signal: stop.signal });
  setTimeout(() => stop.abort(), 10);
  await expect(call).rejects.toMatchObject({ name: "AbortError" });
});

test("problems are told apart by their type, and what isn't Daybook's by its status", async () => {
  const daybook = client();
  const missing = await daybook.getTask(newKey()).catch((error: unknown) => error);
  expect(isProblem(missing, "/problems/task-not-found") && missing.problem.status).toBe(404);
  const { task } = await daybook.createTask({ title: "Buy milk" });
  const stale = await daybook.updateTask(task.id, { title: "x" }, { ifMatch: 7 }).catch((error: unknown) => error);
  expect(isProblem(stale, "/problems/precondition-failed") && stale.headers.get("ETag")).toMatch(/^"1-/);
  const invalid = await daybook.createTask({ title: "" }).catch((error: unknown) => error);
  expect(isProblem(invalid, "/problems/invalid") && invalid.problem.errors?.[0]?.field).toBe("title");
  const page = answering(() => new Response("<h1>Bad Gateway</h1>", { status: 502, statusText: "Bad Gateway" }));
  const other = (await page.daybook.listTasks().catch((error: unknown) => error)) as DaybookError;
  expect([other.problem.type, other.status, other.message]).toEqual([
    "about:blank",
    502,
    "The tasks can't be reached (502).",
  ]);
});

test.each<[string, () => Response, boolean]>([
  ["an older version", () => problem("precondition-failed", 412), true],
  ["a task that is gone", () => problem("task-not-found", 404), true],
  ["a token that may only read", () => problem("read-only", 403), true],
  ["a title that is too long", () => problem("invalid", 422), true],
  ["a token that has ended", () => problem("not-authenticated", 401), false],
  ["a body that came too slowly", () => problem("request-timeout", 408), false],
  ["a limit of requests", () => problem("rate-limited", 429), false],
  ["an error of the service", () => problem("internal-server-error", 500), false],
  ["a service without its database", () => problem("unavailable", 503), false],
  ...[403, 404, 413, 425, 502, 521, 522].map((status): [string, () => Response, boolean] => [
    `a proxy's page (${status})`,
    () => new Response("<html>", { status, headers: { "Content-Type": "text/html" } }),
    false,
  ]),
  ["another service's problem", () => Response.json({ type: "https://waf.test/x", status: 403, detail: "" }, { status: 403 }), false],
  ["another service's error", () => Response.json({ type: 7, status: 403, detail: "" }, { status: 403 }), false],
  ["a captive portal's document", () => Response.json({ login: "https://portal.test" }), false],
  ["a captive portal's page", () => new Response("<html>", { headers: { "Content-Type": "text/html" } }), false],
  ["a network that is away", () => { throw new TypeError("offline"); }, false],
])("tells what Daybook refuses for good from all else: %s", async (_, answer, refused) => {
  const { daybook } = answering(answer, { attempts: 1 });
  const error = await daybook.completeTask("a").catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(Error);
  expect(isRefusal(error)).toBe(refused);
});

test("the types of problems are those that the service documents", () => {
  const documented = [...source("../../docs/guides/errors.md").matchAll(/^\| `(\/problems\/[a-z-]+)` \| (\d+) /gm)];
  const typed = [...source("src/problems.ts").matchAll(/^ {2}"(\/problems\/[a-z-]+)": (\d+);/gm)];
  expect(typed.map(([, type, status]) => [type, status])).toEqual(documented.map(([, type, status]) => [type, status]));
  const known = new Set(typed.map(([, type]) => type));
  for (const [type] of source("../../docs/openapi.json").matchAll(/\/problems\/[a-z-]+(?=")/g))
    expect(known).toContain(type);
});

test("pages are followed to the end, with their filter", async () => {
  const daybook = client();
  const operations = Array.from({ length: 7 }, (_, number) => ({
    op: "create" as const,
    title: `${number}`,
    tags: number % 2 ? ["odd", "a&b"] : ["even"],
  }));
  await daybook.batch({ operations });
  const sizes: number[] = [];
  for await (const tasks of pages(daybook.listTasks, { limit: 3, sort: "title" })) sizes.push(tasks.length);
  expect(sizes).toEqual([3, 3, 1]);
  const odd = await all(daybook.listTasks, { tag: ["odd", "a&b"], limit: 1, sort: "title" });
  expect(odd.map(({ title }) => title)).toEqual(["1", "3", "5"]);
  expect((await all(daybook.listEvents, { limit: 2 })).map(({ seq }) => seq)).toEqual([7, 6, 5, 4, 3, 2, 1]);
});

test("the service may be under a path, behind a slash at its end", async () => {
  const link = '</api/ann/tasks?limit=1&cursor=abc>; rel="next"';
  const { seen, daybook } = answering(
    ({ url }) => Response.json([], { headers: url.includes("cursor") ? {} : { Link: link } }),
    {
      url: "https://example.test/daybook/",
    },
  );
  await all(daybook.listTasks);
  expect(seen.map(({ url }) => url)).toEqual([
    "https://example.test/daybook/api/ann/tasks",
    "https://example.test/daybook/api/ann/tasks?limit=1&cursor=abc",
  ]);
});

import { expect, test } from "vitest";
import { type Daybook, MemoryStore, pull, stream, sync, type StreamedEvent } from "daybook-client";
import { answering, client, eventsOf, lots, problem, proxy, tokenOf, until } from "./support.js";

/** Do something to the user's tasks, `count` times. */
async function act(daybook: Daybook, count: number, draw: () => number, ids: string[] = []): Promise<void> {
  for (let number = 0; number < count; number++) {
    const id = ids[Math.floor(draw() * ids.length)];
    const what = draw();
    const pair = [1, 2].map((each) => ({ op: "create" as const, title: `Task ${number}.${each}` })); // of one moment
    if (what < 0.1) await daybook.batch({ operations: pair });
    else if (id === undefined || what < 0.4) ids.push((await daybook.createTask({ title: `Task ${number}` })).task.id);
    else if (what < 0.7) await daybook.updateTask(id, { title: `Task ${number}, ${draw()}` }).catch(() => {});
    else if (what < 0.8) await daybook.undo().catch(() => {});
    else if (what < 0.9) await daybook.restoreTask(id, { version: 1 });
    else await daybook.deleteTask(id).catch(() => {});
  }
}

/** A fetch whose answers break off after some bytes, and say that it may connect again at once. */
function breaking(draw: () => number): typeof fetch {
  return async (...given) => {
    const answer = await fetch(...given);
    let left = draw() * 6000;
    const cutter = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const text = new TextDecoder().decode(chunk).replace("retry: 2000", "retry: 1");
        const bytes = new TextEncoder().encode(text).subarray(0, left);
        controller.enqueue(bytes);
        if ((left -= bytes.length) < 1) controller.error(new TypeError("terminated"));
      },
    });
    return new Response(answer.body!.pipeThrough(cutter), answer);
  };
}

test("each event comes once and in order, wherever the connection breaks off", async () => {
  const direct = client();
  const { userId } = direct;
  const draw = lots(3);
  let connections = 0;
  const daybook = client({ userId, token: tokenOf(userId), attempts: 1 });
  const broken = { ...daybook, open: client({ userId, token: tokenOf(userId), fetch: breaking(draw) }).open };
  const counted = { ...broken, open: (request: Request) => ((connections += 1), broken.open(request)) };
  const stop = new AbortController();
  const seen: StreamedEvent[] = [];
  const reading = (async () => {
    for await (const event of stream(counted, { after: 0, signal: stop.signal, pause: 1 })) seen.push(event);
  })();
  await act(direct, 60, draw);
  const events = await eventsOf(direct);
  await until(() => seen.length >= events.length);
  stop.abort();
  await reading;
  expect(seen.map(({ task: _, ...event }) => event)).toEqual(events);
  expect(connections).toBeGreaterThan(5);
});

test("without a number it begins with the next event, also if the first connection is cut", async () => {
  const { url, cut } = await proxy(() => "pass");
  const direct = client();
  const { userId } = direct;
  await direct.createTask({ title: "Before" });
  const daybook = client({ userId, url, token: tokenOf(userId) });
  const events = stream(daybook, { pause: 5 });
  const first = events.next();
  await new Promise((resolve) => setTimeout(resolve, 200));
  cut();
  await direct.createTask({ title: "After" });
  expect((await first).value).toMatchObject({ seq: 2, task: { title: "After" } });
  await events.return();
});

test("a connection goes on with a new token, after the last event, as the service says", async () => {
  const lines = (seq: number) => `retry: 1\n\nevent: TaskCreated\ndata: {"seq": ${seq}, "task": null}\nid: ${seq}\n\n`;
  let token = 0;
  const { seen, daybook } = answering(
    ({ headers }) => {
      if (headers.get("Authorization") === "Bearer token-1" && seen.length > 1)
        return problem("not-authenticated", 401);
      if (seen.length === 4) return problem("too-many-streams", 429, { "Retry-After": "0" });
      if (seen.length === 5) return problem("internal-server-error", 500);
      return new Response(lines(Number(headers.get("Last-Event-ID")) + 1));
    },
    { token: () => `token-${++token}` },
  );
  const seqs: number[] = [];
  const reading = async () => {
    for await (const { seq } of stream(daybook, { after: 7 })) seqs.push(seq);
  };
  await expect(reading()).rejects.toMatchObject({ status: 500 });
  expect(seqs).toEqual([8, 9]);
  expect(seen.map(({ headers }) => headers.get("Last-Event-ID"))).toEqual(["7", "8", "8", "9", "9"]);
  expect(seen.at(-1)!.headers.get("Authorization")).toBe("Bearer token-2");
});

test("a silent connection is opened again, and an aborted one ends without an error", async () => {
  const { seen, daybook } = answering(
    () => new Response(new ReadableStream({ start: (body) => body.enqueue(new TextEncoder().encode("retry: 1\n\n")) })),
  );
  const stop = new AbortController();
  const reading = (async () => {
    for await (const _ of stream(daybook, { after: 0, silence: 10, signal: stop.signal }));
  })();
  await until(() => seen.length > 2);
  stop.abort();
  await reading;
  expect(seen[0]!.signal.aborted).toBe(true);
});

test("a log that was replaced by a backup ends the stream with 410", async () => {
  const { daybook } = answering(() => problem("log-replaced", 410));
  await expect(stream(daybook, { after: 9 }).next()).rejects.toMatchObject({ status: 410 });
});

test("a copy equals the list after whatever happened, with cuts on the way", async () => {
  const { url, cut } = await proxy(() => "pass");
  const direct = client();
  const { userId } = direct;
  const draw = lots(11);
  const ids: string[] = [];
  await act(direct, 10, draw, ids);
  const store = new MemoryStore();
  let told = 0;
  store.subscribe(() => (told += 1));
  const stop = new AbortController();
  const syncing = sync(client({ userId, url, token: tokenOf(userId) }), store, { signal: stop.signal, pause: 5 });
  await until(() => store.token());
  for (let round = 0; round < 5; round++) {
    await act(direct, 6, draw, ids);
    cut();
  }
  const { items } = await direct.listTasks();
  await until(() => JSON.stringify(store.list()) === JSON.stringify(items));
  stop.abort();
  await syncing;
  expect(told).toBeGreaterThan(0);
});

test("a copy of a log that is no more is replaced", async () => {
  const daybook = client();
  const { task } = await daybook.createTask({ title: "Now" });
  const store = new MemoryStore();
  await pull(daybook, store);
  const bytes = Buffer.from(store.token()!, "base64url");
  bytes[bytes.length - 1]! ^= 1; // as from after the backup: the same number, another hash
  const next = bytes.toString("base64url");
  store.apply({ tasks: [{ ...task, id: "gone" }], deleted: [], next, more: false }, false);
  expect(store.list()).toHaveLength(2);
  await pull(daybook, store);
  expect(store.list()).toEqual([task]);
});

test("the copy is pulled page by page", async () => {
  const direct = client();
  await act(direct, 12, lots(5));
  const daybook: Daybook = {
    ...direct,
    getChanges: (query, options) => direct.getChanges({ ...query, limit: 2 }, options),
  };
  const store = new MemoryStore();
  await pull(daybook, store);
  expect(store.list()).toEqual((await direct.listTasks()).items);
});

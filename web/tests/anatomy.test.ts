import { expect, inject, test } from "vitest";
import { anatomyOf, type FullEvent, requestOf } from "../src/log/anatomy";

const log = inject("fixtures")
  .chains[0]!.log.trim()
  .split("\n")
  .map((line) => JSON.parse(line) as FullEvent);

test("computes every hash of a log as the service did", async () => {
  let previous = "";
  for (const event of log) {
    const { hash } = await anatomyOf(event, previous);
    expect(hash).toBe(event.hash);
    previous = hash;
  }
  expect(log.length).toBe(10);
});

test("gives another hash if anything is another", async () => {
  const [first, second] = log as [FullEvent, FullEvent];
  for (const changed of [
    { salt: "00" },
    { actor: "eve" },
    { idempotency_key: null },
    { version: 7 },
    { data: { v: 3 } },
  ]) {
    expect((await anatomyOf({ ...second, ...changed }, first.hash)).hash).not.toBe(second.hash);
  }
  expect((await anatomyOf(second, "")).hash).not.toBe(second.hash);
});

test("computes the same hash from what is left of an erased event, and shows nothing of its content", async () => {
  const [first, second] = log as [FullEvent, FullEvent];
  const { personal } = await anatomyOf(second, first.hash);
  const { request_id, client, idempotency_key, fingerprint, salt, data, changes, ...left } = second;
  const none = { request_id: null, idempotency_key: null, fingerprint: null, salt: null, data: null };
  const nobody = { address: null, agent: null };
  const erased: FullEvent = { ...left, ...none, client: nobody, changes: {}, erased: true, personal };
  const anatomy = await anatomyOf(erased, first.hash);
  expect([anatomy.hash, anatomy.personal, anatomy.personalText]).toEqual([second.hash, personal, null]);
  expect((await anatomyOf({ ...erased, personal: "ab".repeat(32) }, first.hash)).hash).not.toBe(second.hash);
  expect(requestOf(erased)).toBe(`PATCH /api/ann/tasks/${second.task_id}\n(erased)`);
});

test("tells the request that erases", () => {
  const base = { ...log[0]!, changes: {}, data: { v: 3 } };
  const task = `/api/ann/tasks/${base.task_id}`;
  expect(requestOf({ ...base, type: "TaskErased", reason: null })).toBe(`POST ${task}/erase\n{}`);
  expect(requestOf({ ...base, type: "UserErased", reason: "asked" })).toBe(
    'DELETE /api/ann\n{\n  "confirm": "ann",\n  "reason": "asked"\n}',
  );
});

test("tells the request that leads to each kind of event", () => {
  const requests = log.map((event) =>
    requestOf(event)
      .split("\n")[0]!
      .replace(/[0-9a-f-]{36}/, "ID"),
  );
  expect([...new Set(requests)]).toEqual([
    "POST /api/ann/tasks",
    "PATCH /api/ann/tasks/ID",
    "PATCH /api/ann/tasks/ID/complete",
    "DELETE /api/ann/tasks/ID",
    "POST /api/ann/tasks/ID/restore",
  ]);
});

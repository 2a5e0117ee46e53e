import { createDaybook, type AuditEvent } from "daybook-client";
import { expect, test } from "vitest";
import { createEventList, type EventFilter } from "../src/model/events";
import { createTimeTravel } from "../src/model/time_travel";

const NO_FILTER: EventFilter = { type: "", since: "", until: "" };

/** Make the event with this number: each adds a task of its own. */
function eventOf(seq: number): AuditEvent {
  const client = { address: null, agent: null };
  const changes = { title: { from: null, to: `Task ${seq}` } };
  const at = `2026-11-20T06:00:0${seq}.000000Z`;
  const about = { task_id: `task-${seq}`, version: 1, at, actor: "ann", request_id: null, client, changes };
  return { seq, id: `event-${seq}`, type: "TaskCreated", hash: `${seq}`, ...about };
}

/** A client whose service answers once with these events; `meanwhile` is called before that. */
function daybookWith(body: string, type: string, meanwhile: () => void) {
  const answer = () => new Response(body, { headers: { "Content-Type": type } });
  const fetch = async () => (meanwhile(), answer());
  return createDaybook({ url: "http://daybook", userId: "ann", token: "t", attempts: 1, fetch });
}

test("the slider goes on with the events that happen while the log is being read", async () => {
  const log = [1, 2].map((seq) => `${JSON.stringify(eventOf(seq))}\n`).join("");
  const meanwhile = () => [2, 3].forEach((seq) => travel.receive(eventOf(seq)));
  const travel = createTimeTravel(daybookWith(log, "application/x-ndjson", meanwhile), null);
  await travel.load(new AbortController().signal);
  travel.receive(eventOf(4));
  expect(travel.shown.value.count).toBe(4);
  expect(travel.shown.value.tasks.map(({ title }) => title)).toEqual(["Task 4", "Task 3", "Task 2", "Task 1"]);
});

test("the history has no gap after an old event, and keeps those that happen while it is read", async () => {
  const page = JSON.stringify([4, 3, 2, 1].map(eventOf));
  const meanwhile = () => list.receive(eventOf(5));
  const list = createEventList(daybookWith(page, "application/json", meanwhile), NO_FILTER, 100);
  list.receive(eventOf(1)); // the last one before the tab was signed out
  await list.more();
  expect(list.events.value.map(({ seq }) => seq)).toEqual([5, 4, 3, 2, 1]);
});

test("the history forgets what was erased, also if it is still being read", async () => {
  const about = (seq: number, task_id: string) => ({ ...eventOf(seq), task_id });
  const erasure = { ...about(4, "a"), type: "TaskErased" as const, changes: {}, reason: "asked" };
  const page = JSON.stringify([about(3, "b"), about(2, "a")]);
  const list = createEventList(daybookWith(page, "application/json", () => list.receive(erasure)), NO_FILTER, 100);
  list.receive(about(1, "a"));
  await list.more();
  const [first, second, third] = list.events.value as [AuditEvent, AuditEvent, AuditEvent];
  expect(list.events.value.map(({ seq }) => seq)).toEqual([4, 3, 2]);
  expect([first, second]).toEqual([erasure, about(3, "b")]);
  expect(third).toEqual({ ...about(2, "a"), changes: {}, erased: true });
});

test("a filter that leaves out erasures doesn't keep what they erase", async () => {
  const list = createEventList(daybookWith("[]", "application/json", () => {}), { ...NO_FILTER, type: "TaskCreated" }, 100);
  list.receive(eventOf(1));
  list.receive({ ...eventOf(2), task_id: "task-1", type: "TaskErased", changes: {} });
  expect(list.events.value).toEqual([{ ...eventOf(1), changes: {}, erased: true }]);
});

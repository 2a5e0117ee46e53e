import type { AuditEvent } from "daybook-client";
import { expect, test } from "vitest";
import { byDay, dayName } from "../src/log/days";
import { sentenceOf, textOf, titlesAt, valueText } from "../src/log/words";

type Changes = Record<string, { from: unknown; to: unknown }>;

const told = (type: AuditEvent["type"], changes: Changes) => {
  const { before, after } = sentenceOf({ type, changes: changes as AuditEvent["changes"] });
  return `${before} X ${after}`.trim();
};

test.each<[AuditEvent["type"], Changes, string]>([
  ["TaskCreated", { title: { from: null, to: "Buy milk" } }, "added X"],
  ["TaskDeleted", { title: { from: "Buy milk", to: null } }, "deleted X"],
  ["TaskToggled", { completed: { from: false, to: true } }, "completed X"],
  ["TaskToggled", { completed: { from: true, to: false } }, "opened X again"],
  ["TaskUpdated", { completed: { from: true, to: false } }, "opened X again"],
  ["TaskUpdated", { title: { from: "Buy milk", to: "Buy oat milk" } }, "renamed X"],
  ["TaskUpdated", { priority: { from: null, to: "high" } }, "set the priority of X to high"],
  ["TaskUpdated", { priority: { from: "high", to: null } }, "removed the priority of X"],
  ["TaskUpdated", { tags: { from: ["home"], to: [] } }, "removed the tags of X"],
  ["TaskUpdated", { tags: { from: [], to: ["home"] } }, "added the tags of X"],
  ["TaskUpdated", { description: { from: "a", to: "b" } }, "changed the description of X"],
  ["TaskUpdated", { title: { from: "a", to: "b" }, tags: { from: [], to: ["c"] } }, "changed the title and tags of X"],
  ["TaskRestored", { title: { from: null, to: "Buy milk" } }, "brought back X"],
  ["TaskRestored", { title: { from: "a", to: "b" } }, "put back X to an earlier title"],
])("tells %s with %j", (type, changes, sentence) => {
  expect(told(type, changes)).toBe(sentence);
});

test.each<[AuditEvent["type"], string]>([
  ["TaskCreated", "added X"],
  ["TaskUpdated", "changed X"],
  ["TaskToggled", "completed or opened X"],
  ["TaskDeleted", "deleted X"],
  ["TaskRestored", "restored X"],
])("tells %s without its content, if that was erased", (type, told) => {
  const { before, after } = sentenceOf({ type, changes: {}, erased: true });
  expect(`${before} X ${after}`.trim()).toBe(told);
});

test("tells erasures, and what was erased, as one text", () => {
  expect(textOf({ type: "TaskErased", changes: {} }, "")).toBe("erased a task for good");
  expect(textOf({ type: "UserErased", changes: {} }, "")).toBe("erased all tasks for good");
  expect(textOf({ type: "TaskCreated", changes: {}, erased: true }, "")).toBe("added an erased task");
  expect(textOf({ type: "TaskCreated", changes: {} }, "Buy milk")).toBe("added “Buy milk”");
});

test("tells a due date as the day that it is, whatever the zone", () => {
  expect(valueText("due_date", "2026-12-01")).toContain("1");
  expect(valueText("due_date", "2026-12-01")).toContain("2026");
  expect(valueText("due_date", null)).toBe("");
});

test("calls a task by its title at the time", () => {
  const renamed = { title: { from: "Buy milk", to: "Buy oat milk" } } as AuditEvent["changes"];
  const created = { title: { from: null, to: "Buy milk" } } as AuditEvent["changes"];
  const deleted = { title: { from: "Gone", to: null } } as AuditEvent["changes"];
  const events = [
    { seq: 6, task_id: "b", changes: deleted },
    { seq: 5, task_id: "a", changes: {} },
    { seq: 4, task_id: "a", changes: renamed },
    { seq: 3, task_id: "a", changes: {} },
    { seq: 2, task_id: "b", changes: {} },
    { seq: 1, task_id: "a", changes: created },
  ];
  const titles = titlesAt(events, new Map([["a", "Buy oat milk"]]));
  expect(Object.fromEntries(titles)).toEqual({
    1: "Buy milk",
    2: "Gone",
    3: "Buy milk",
    4: "Buy oat milk",
    5: "Buy oat milk",
    6: "Gone",
  });
});

test("groups what happened by the browser's days", () => {
  const at = (day: number, hour: number) => ({ at: new Date(2026, 10, day, hour).toISOString() });
  const days = byDay([at(29, 9), at(29, 1), at(28, 23), at(20, 5)]);
  expect(days.map(([day, events]) => [day, events.length])).toEqual([
    ["2026-11-29", 2],
    ["2026-11-28", 1],
    ["2026-11-20", 1],
  ]);
  const now = new Date(2026, 10, 29, 12);
  expect(dayName("2026-11-29", now)).toBe("Today");
  expect(dayName("2026-11-28", now)).toBe("Yesterday");
  expect(dayName("2026-11-20", now)).toContain("2026");
});

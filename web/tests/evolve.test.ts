import type { Task } from "daybook-client";
import { expect, inject, test } from "vitest";
import { evolve, type Foldable, ImpossibleEvent } from "../src/log/evolve";
import { taskOf } from "./support";

const { user, folds } = inject("fixtures");

test("folds every log as the service does, and refuses what it refuses", () => {
  expect(folds.length).toBeGreaterThan(70);
  for (const [index, { events, tasks }] of folds.entries()) {
    const now = new Map<string, Task | null>();
    const born = new Map<string, string>();
    for (const [place, event] of events.entries()) {
      const { task_id } = event;
      if (!born.has(task_id)) born.set(task_id, event.at);
      const fold = () => evolve(now.get(task_id) ?? null, event, { userId: user, createdAt: born.get(task_id)! });
      const where = `log ${index}, event ${place}: ${JSON.stringify(event)}`;
      if (tasks[place] === "impossible") expect(fold, where).toThrow(ImpossibleEvent);
      else expect(fold(), where).toEqual(tasks[place]);
      now.set(task_id, tasks[place] as Task | null);
    }
  }
});

const origin = { userId: "ann", createdAt: "2026-11-20T06:00:00.000000Z" };
const at = "2026-11-20T06:00:05.000000Z";
const erasure: Foldable = { type: "TaskErased", task_id: "a", version: 3, at, changes: {} };

test("leaves no task of what was erased, whether it was deleted before or not", () => {
  const erased = ["TaskCreated", "TaskUpdated", "TaskDeleted"] as const;
  for (const [place, type] of erased.entries()) {
    const event: Foldable = { type, task_id: "a", version: place + 1, at, changes: {}, erased: true };
    expect(evolve(null, event, origin)).toBeNull();
  }
  expect(evolve(null, erasure, origin)).toBeNull();
  expect(evolve(taskOf({ version: 2 }), erasure, origin)).toBeNull();
});

test("refuses an erasure of what never was, or of another version", () => {
  expect(() => evolve(null, { ...erasure, version: 1 }, origin)).toThrow(ImpossibleEvent);
  expect(() => evolve(taskOf({ version: 1 }), erasure, origin)).toThrow(ImpossibleEvent);
});

test("changes no task when all of a user's content was erased", () => {
  const event: Foldable = { ...erasure, type: "UserErased", version: 1 };
  expect(evolve(null, event, origin)).toBeNull();
});

import type { Task } from "daybook-client";
import { expect, inject, test } from "vitest";
import { evolve, ImpossibleEvent } from "../src/log/evolve";

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

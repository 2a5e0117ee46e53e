import type { Task } from "daybook-client";
import { expect, inject, test } from "vitest";
import { type Step, Timeline } from "../src/log/timeline";

/** All logs of the fixtures that can be folded, one after the other, as one log of one user. */
function wholeLog(): { step: Step; task: Task | null }[] {
  const logs = inject("fixtures").folds.filter(({ tasks }) => !tasks.includes("impossible"));
  const known = new Set<string>();
  return logs
    .filter(
      ({ events }) => !events.some(({ task_id }) => known.has(task_id)) && events.every((e) => known.add(e.task_id)),
    )
    .flatMap(({ events, tasks }) => events.map((event, index) => ({ event, task: tasks[index] as Task | null })))
    .map(({ event, task }, index) => ({ step: { ...event, seq: index + 1 }, task }));
}

test("shows at every moment the tasks that the service's fold leaves, in whatever order the moments are gone to", () => {
  const log = wholeLog();
  const timeline = new Timeline("ann");
  const moments: Map<string, Task>[] = [new Map()];
  for (const { step, task } of log) {
    timeline.add(step);
    const now = new Map(moments.at(-1));
    if (task) now.set(task.id, task);
    else now.delete(step.task_id);
    moments.push(now);
  }
  expect(log.length).toBeGreaterThan(500);
  let seed = 3;
  const visits = [
    log.length,
    0,
    1,
    ...Array.from({ length: 300 }, () => (seed = (seed * 48271) % 2147483647) % moments.length),
  ];
  for (const count of visits) {
    timeline.goTo(count);
    expect(timeline.at).toBe(count);
    expect(new Map(timeline.tasks().map((task) => [task.id, task]))).toEqual(moments[count]);
  }
});

test("goes no further than there are events, and calls a deleted task by its last title", () => {
  const timeline = new Timeline("ann");
  const at = "2026-11-20T06:00:00.000000Z";
  const created = { title: { from: null, to: "Buy milk" }, completed: { from: null, to: false } } as Step["changes"];
  const deleted = { title: { from: "Buy milk", to: null } } as Step["changes"];
  timeline.add({ seq: 1, type: "TaskCreated", task_id: "a", version: 1, at, changes: created });
  timeline.add({ seq: 2, type: "TaskDeleted", task_id: "a", version: 2, at, changes: deleted });
  timeline.goTo(7);
  expect([timeline.at, timeline.tasks()]).toEqual([2, []]);
  timeline.goTo(-1);
  expect(timeline.at).toBe(0);
  expect([timeline.titleAt(0), timeline.titleAt(1)]).toEqual(["Buy milk", "Buy milk"]);
});

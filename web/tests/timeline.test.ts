import type { Task } from "daybook-client";
import { expect, inject, test } from "vitest";
import { type Step, Timeline } from "../src/log/timeline";

/** All logs of the fixtures that can be folded, one after the other, as one log of one user. Those that end with an
 * erasure are left out: the page forgets what it knew of such a task, at all moments. */
function wholeLog(): { step: Step; task: Task | null }[] {
  const logs = inject("fixtures").folds.filter(({ tasks }) => !tasks.includes("impossible"));
  const known = new Set<string>();
  return logs
    .filter(
      ({ events }) =>
        !events.some(({ task_id, type }) => known.has(task_id) || type === "TaskErased") &&
        events.every((e) => known.add(e.task_id)),
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
  expect(log.length).toBeGreaterThan(400);
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

test("shows a task at no moment whose content was erased, also if it was known before", () => {
  const timeline = new Timeline("ann");
  const at = "2026-11-20T06:00:00.000000Z";
  const created = (title: string) => ({ title: { from: null, to: title } }) as Step["changes"];
  const milk = { task_id: "a", at };
  timeline.add({ seq: 1, type: "TaskCreated", version: 1, changes: created("Buy milk"), ...milk });
  timeline.add({ seq: 2, type: "TaskCreated", task_id: "b", version: 1, at, changes: created("Call Ann") });
  timeline.add({ seq: 3, type: "TaskDeleted", version: 2, changes: {}, ...milk });
  timeline.goTo(2);
  expect(timeline.tasks().map(({ title }) => title)).toEqual(["Call Ann", "Buy milk"]);
  timeline.add({ seq: 4, type: "TaskErased", version: 3, changes: {}, ...milk });
  timeline.add({ seq: 5, type: "UserErased", task_id: "0", version: 1, at, changes: {} });
  for (const count of [2, 5, 1, 4, 0, 3]) {
    timeline.goTo(count);
    expect(timeline.tasks().map(({ title }) => title)).toEqual(count < 2 ? [] : ["Call Ann"]);
  }
  expect([0, 2, 3].map((place) => timeline.titleAt(place))).toEqual(["", "", ""]);
  expect(JSON.stringify(timeline.steps)).not.toContain("milk");
});

test("goes through a log of which some was erased before it was read", () => {
  const timeline = new Timeline("ann");
  const at = "2026-11-20T06:00:00.000000Z";
  const types = ["TaskCreated", "TaskToggled", "TaskDeleted", "TaskRestored"] as const;
  for (const [place, type] of types.entries()) {
    timeline.add({ seq: place + 1, type, task_id: "a", version: place + 1, at, changes: {}, erased: true });
  }
  timeline.add({ seq: 5, type: "TaskErased", task_id: "a", version: 5, at, changes: {} });
  for (let count = 5; count >= 0; count--) {
    timeline.goTo(count);
    expect([timeline.at, timeline.tasks()]).toEqual([count, []]);
  }
});

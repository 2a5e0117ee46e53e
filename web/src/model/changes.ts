import { emptyTask } from "../log/evolve";
import type { NewTask, Task, TaskChanges } from "daybook-client";

/** Something that the user did to a task. */
export type Change =
  | { op: "create"; id: string; fields: NewTask }
  | { op: "update"; id: string; fields: TaskChanges }
  | { op: "complete"; id: string; completed: boolean }
  | { op: "delete"; id: string }
  | { op: "restore"; id: string; task: Task };

/** A change on its way to the service. */
export interface Waiting {
  /** Its `Idempotency-Key`: however often it is sent, it is made once. */
  key: string;
  change: Change;
  /** The task as the user saw it; null if they had none. */
  seen: Task | null;
  /** The version that it follows on; null for none, or if it isn't known before the change named by `follows` is made. */
  version: number | null;
  /** The change of the same task that waits before this one; null if none does. */
  follows: string | null;
  /** When it was made (RFC 3339). */
  at: string;
}

/** Return how to name a change's task to the user. */
export function nameOf({ change, seen }: Waiting): string {
  const title = "fields" in change ? change.fields.title : undefined;
  return `“${seen?.title ?? (change.op === "restore" ? change.task.title : title) ?? "The task"}”`;
}

/** Return the task as it will be after the change, as far as a browser can tell. Null: it will be gone. */
export function applied(task: Task | null, { change, at }: Waiting, userId: string): Task | null {
  switch (change.op) {
    case "create":
      return { ...emptyTask(change.id, userId, at), ...given(change.fields) };
    case "restore":
      return task ?? change.task;
    case "delete":
      return null;
    case "complete":
      return (
        task && {
          ...task,
          completed: change.completed,
          completed_at: change.completed ? (task.completed_at ?? at) : null,
        }
      );
    case "update":
      return task && { ...task, ...given(change.fields) };
  }
}

/** Return the tasks as they will be once all that waits is done. */
export function withWaiting(base: ReadonlyMap<string, Task>, waiting: readonly Waiting[], userId: string): Task[] {
  if (!waiting.length) return [...base.values()];
  const tasks = new Map(base);
  for (const each of waiting) {
    const task = applied(tasks.get(each.change.id) ?? null, each, userId);
    if (task) tasks.set(each.change.id, task);
    else tasks.delete(each.change.id);
  }
  return [...tasks.values()];
}

function given(fields: NewTask | TaskChanges): Partial<Task> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<Task>;
}

import type { AuditEvent, Task } from "daybook-client";

/** What the fold needs of an event. */
export type Foldable = Pick<AuditEvent, "type" | "task_id" | "version" | "at" | "changes" | "erased">;

/** An event that can't follow on the state before it: the log is damaged, or was read out of order. */
export class ImpossibleEvent extends Error {
  override readonly name = "ImpossibleEvent";
}

/** Where a task comes from that an event makes: its user, and when it was made first, if it had been deleted. */
export interface Origin {
  userId: string;
  createdAt: string;
}

/** Fold one event into a task; null is a task that doesn't exist, or whose content was erased. The same as `evolve` in
 * events/task.py, to which the tests hold it. */
export function evolve(task: Task | null, event: Foldable, origin: Origin): Task | null {
  const { type, version, at, erased } = event;
  if (type === "UserErased") return task; // each of the user's tasks has had a TaskErased
  if (erased) return null;
  const makes = type === "TaskCreated" || (type === "TaskRestored" && !task);
  const follows = makes
    ? !task && (type === "TaskRestored" ? version > 2 : version === 1)
    : task
      ? task.version === version - 1
      : type === "TaskErased" && version > 1;
  if (!follows) {
    const found = task ? `a task at version ${task.version}` : "no task";
    throw new ImpossibleEvent(`${type} as version ${version} of task ${event.task_id} can't follow ${found}`);
  }
  if (type === "TaskDeleted" || type === "TaskErased") return null;
  const before = task ?? blank(event, origin);
  const after = { ...before, ...valuesAfter(event), updated_at: at, version };
  const completedAt = before.completed ? before.completed_at : at;
  return { ...after, completed_at: after.completed ? completedAt : null };
}

/** A task before its first event. Fields that are empty before and after aren't in an event. */
function blank({ type, task_id, at }: Foldable, { userId, createdAt }: Origin): Task {
  return { ...emptyTask(task_id, userId, at), created_at: type === "TaskCreated" ? at : createdAt };
}

/** A task of a moment without anything in it, to put its fields into. */
export function emptyTask(id: string, userId: string, at: string): Task {
  return {
    id,
    user_id: userId,
    title: "",
    description: null,
    completed: false,
    priority: null,
    due_date: null,
    tags: [],
    created_at: at,
    updated_at: at,
    completed_at: null,
    version: 0,
  };
}

function valuesAfter({ changes }: Foldable): Partial<Task> {
  const empty: Partial<Task> = { tags: [] };
  const values = Object.entries(changes).map(([name, change]) => [
    name,
    change?.to ?? empty[name as keyof Task] ?? null,
  ]);
  return Object.fromEntries(values) as Partial<Task>;
}

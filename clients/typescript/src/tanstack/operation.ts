import type { Daybook, NewTask, Task, TaskChanges, Written } from "../client.js";

/** A write that the user wants: kept until it is answered, with its key, so that it can't be made twice. */
export type Operation = { key: string; id: string; ifMatch?: number } & (
  | { op: "create"; task: NewTask; at: string }
  | { op: "update"; changes: TaskChanges }
  | { op: "complete"; completed: boolean }
  | { op: "delete" }
);

export type Result = Written & { task: Task | null };

/** Send an operation. */
export function carryOut(daybook: Daybook, operation: Operation): Promise<Result> {
  const { id, key, ifMatch } = operation;
  const options = { key, ...(ifMatch !== undefined && { ifMatch }) };
  switch (operation.op) {
    case "create":
      return daybook.createTask({ ...operation.task, id }, options);
    case "update":
      return daybook.updateTask(id, operation.changes, options);
    case "complete":
      return daybook.completeTask(id, operation.completed, options);
    case "delete":
      return daybook.deleteTask(id, options);
  }
}

/** Return the task as the operation will leave it, if it succeeds; undefined if there is none. The version stays what
 * it is, until the service tells the new one. */
export function expected(operation: Operation, task: Task | undefined, userId: string): Task | undefined {
  if (operation.op === "create") return task ?? created(operation, userId);
  if (!task || operation.op === "delete") return undefined;
  if (operation.op === "complete") return { ...task, ...completion(operation.completed) };
  const { completed, title, ...rest } = operation.changes;
  return {
    ...task,
    ...(rest as Partial<Task>),
    tags: rest.tags ?? (rest.tags === null ? [] : task.tags),
    title: title ?? task.title,
    ...(completed != null && completion(completed)),
  };
}

function created({ id, task, at }: Operation & { op: "create" }, user_id: string): Task {
  return {
    id,
    user_id,
    title: task.title,
    description: task.description ?? null,
    priority: task.priority ?? null,
    due_date: task.due_date ?? null,
    tags: task.tags ?? [],
    created_at: at,
    updated_at: at,
    ...completion(task.completed ?? false),
    version: 1,
  };
}

function completion(completed: boolean): Pick<Task, "completed" | "completed_at"> {
  return { completed, completed_at: completed ? new Date().toISOString() : null };
}

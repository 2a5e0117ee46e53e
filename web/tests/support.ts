import type { Task } from "daybook-client";

/** Make a task for a test. */
export function taskOf(fields: Partial<Task> = {}): Task {
  const at = "2026-11-20T06:00:00.000000Z";
  const empty = { description: null, completed: false, priority: null, due_date: null, tags: [], completed_at: null };
  return {
    id: "a",
    user_id: "ann",
    title: "Buy milk",
    ...empty,
    created_at: at,
    updated_at: at,
    version: 1,
    ...fields,
  };
}

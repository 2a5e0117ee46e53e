import type { Task } from "daybook-client";

/** A copy of the user's tasks that only moves forward: answers and events may come in any order, and more than once. */
export class TaskCopy {
  readonly tasks = new Map<string, Task>();
  #gone = new Map<string, number>();

  /** Put a task, unless a later version of it is known. Return whether the copy has changed. */
  put(task: Task): boolean {
    const known = Math.max(this.tasks.get(task.id)?.version ?? 0, this.#gone.get(task.id) ?? 0);
    if (task.version <= known) return false;
    this.tasks.set(task.id, task);
    return true;
  }

  /** Remove a task that was deleted as this version. Return whether the copy has changed. */
  remove(id: string, version: number): boolean {
    if ((this.tasks.get(id)?.version ?? 0) >= version) return false;
    this.#gone.set(id, Math.max(version, this.#gone.get(id) ?? 0));
    return this.tasks.delete(id);
  }

  /** Forget all, since the log was replaced by a backup, or before the list is read anew. */
  clear(): void {
    this.tasks.clear();
    this.#gone.clear();
  }
}

import type { AuditEvent, Task } from "daybook-client";
import { evolve } from "./evolve";

/** What a step of the slider needs of an event. */
export type Step = Pick<AuditEvent, "seq" | "type" | "task_id" | "version" | "at" | "changes" | "erased">;

/** A user's whole log, folded once, so that any moment of it is a step away.
 *
 * Invariant: `#after[n]` is the task that event n left (null if it deleted it), and `#before[n]` the place of the same
 * task's event before n, or -1. So a step in either direction changes one task, and takes no fold. */
export class Timeline {
  readonly steps: Step[] = [];
  #after: (Task | null)[] = [];
  #before: number[] = [];
  #last = new Map<string, number>();
  #createdAt = new Map<string, string>(); // in the order of the log, and so of the list
  #now = new Map<string, Task>();
  #at = 0;

  constructor(readonly userId: string) {}

  /** Add the next event. Throws `ImpossibleEvent` if it can't follow. */
  add(event: Step): void {
    const { seq, type, task_id, version, at, changes, erased } = event;
    const place = this.steps.length;
    const before = this.#last.get(task_id) ?? -1;
    const createdAt = this.#createdAt.get(task_id) ?? at;
    this.#createdAt.set(task_id, createdAt);
    const task = evolve(this.#after[before] ?? null, event, { userId: this.userId, createdAt });
    this.steps.push({ seq, type, task_id, version, at, changes, ...(erased && { erased }) });
    this.#after.push(task);
    this.#before.push(before);
    this.#last.set(task_id, place);
    if (type === "TaskErased") this.#forget(task_id, before);
  }

  /** The number of events that have happened at the moment that is shown. */
  get at(): number {
    return this.#at;
  }

  /** Go to the moment after so many events. */
  goTo(count: number): void {
    const target = Math.max(0, Math.min(this.steps.length, count));
    while (this.#at < target) this.#put(this.steps[this.#at]!.task_id, this.#after[this.#at++]!);
    while (this.#at > target) {
      const place = --this.#at;
      this.#put(this.steps[place]!.task_id, this.#after[this.#before[place]!] ?? null);
    }
  }

  /** Return the tasks of the moment that is shown, in the order of the list: newest first. */
  tasks(): Task[] {
    const shown: Task[] = [];
    for (const id of this.#createdAt.keys()) {
      const task = this.#now.get(id);
      if (task) shown.push(task);
    }
    return shown.reverse();
  }

  /** Return the title of the task of a step: after it, or before it if it was deleted. It is empty if it was erased. */
  titleAt(place: number): string {
    const { changes } = this.steps[place]!;
    return this.#after[place]?.title ?? changes.title?.from ?? "";
  }

  /** Forget the content of a task, in all its events up to the one at `last`. */
  #forget(id: string, last: number): void {
    for (let place = last; place >= 0; place = this.#before[place]!) {
      this.steps[place] = { ...this.steps[place]!, changes: {}, erased: true };
      this.#after[place] = null;
    }
    this.#now.delete(id);
  }

  #put(id: string, task: Task | null): void {
    if (task) this.#now.set(id, task);
    else this.#now.delete(id);
  }
}

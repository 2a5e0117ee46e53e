import type { AuditEvent, Task } from "daybook-client";
import { nameWithout } from "./erasure";

/** What an event did, as a sentence whose object is the task: "set the due date of" + *Buy milk* + "to 1 Dec 2026". */
export interface Sentence {
  before: string;
  after: string;
}

type Changes = AuditEvent["changes"];
type Field = keyof Changes;

export const FIELD_NAMES: Record<Field, string> = {
  title: "title",
  description: "description",
  completed: "completion",
  priority: "priority",
  due_date: "due date",
  tags: "tags",
};

/** What is told of an event whose content was erased, if it would have told more. */
const WITHOUT_CONTENT: Partial<Record<AuditEvent["type"], string>> = {
  TaskUpdated: "changed",
  TaskToggled: "completed or opened",
  TaskRestored: "restored",
};

type Told = Pick<AuditEvent, "type" | "changes" | "erased">;

/** Tell an event in words. The erasure of all tasks has no object. */
export function sentenceOf({ type, changes, erased }: Told): Sentence {
  const kind = erased && WITHOUT_CONTENT[type];
  if (kind) return sentence(kind);
  switch (type) {
    case "TaskCreated":
      return sentence("added");
    case "TaskDeleted":
      return sentence("deleted");
    case "TaskToggled":
      return sentence(changes.completed?.to ? "completed" : "opened", changes.completed?.to ? "" : "again");
    case "TaskRestored":
      return changes.title && changes.title.from === null
        ? sentence("brought back")
        : sentence("put back", backTo(changes));
    case "TaskUpdated":
      return updated(changes);
    case "TaskErased":
      return sentence("erased", "for good");
    case "UserErased":
      return sentence("erased all tasks for good");
  }
}

/** Tell an event as one text. `title` is empty if the task's is not known any more. */
export function textOf(event: Told, title: string): string {
  const { before, after } = sentenceOf(event);
  const task = title ? `“${title}”` : nameWithout(event);
  return event.type === "UserErased" ? before : `${before} ${task} ${after}`.trim();
}

function sentence(before: string, after = ""): Sentence {
  return { before, after };
}

function updated(changes: Changes): Sentence {
  const fields = Object.keys(changes) as Field[];
  const [field] = fields;
  if (fields.length !== 1 || !field) return sentence(`changed the ${listOf(fields)} of`);
  if (field === "title") return sentence("renamed");
  if (field === "completed")
    return sentence(changes.completed?.to ? "completed" : "opened", changes.completed?.to ? "" : "again");
  const to = changes[field]!.to;
  if (to === null || (Array.isArray(to) && !to.length)) return sentence(`removed the ${FIELD_NAMES[field]} of`);
  if (field === "priority") return sentence("set the priority of", `to ${to}`);
  if (field === "due_date") return sentence("set the due date of", `to ${dueText(String(to))}`);
  const had = changes[field]!.from;
  const empty = had === null || (Array.isArray(had) && !had.length);
  return sentence(`${empty ? "added" : "changed"} the ${FIELD_NAMES[field]} of`);
}

function backTo(changes: Changes): string {
  const fields = Object.keys(changes) as Field[];
  return fields.length ? `to an earlier ${listOf(fields)}` : "";
}

/** Name fields in a row: "title, due date and tags". */
export function listOf(fields: readonly Field[]): string {
  const names = fields.map((field) => FIELD_NAMES[field]);
  return names.length < 2 ? (names[0] ?? "fields") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Write a field's value as text; empty for one that is empty. */
export function valueText(field: Field, value: unknown): string {
  if (value === null || value === undefined) return "";
  if (field === "completed") return value ? "completed" : "open";
  if (field === "due_date") return dueText(String(value));
  return Array.isArray(value) ? value.join(", ") : String(value);
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Write a due date: a day is the same everywhere, a moment is told in the browser's zone. */
export function dueText(due: string): string {
  return due.includes("T") ? moment.format(new Date(due)) : day.format(new Date(`${due}T00:00:00Z`));
}

/** Return each task's title as it was when the event happened, for a run of events without a gap, newest first, that
 * begins with the last one. `current` has the titles of now. */
export function titlesAt(events: Pick<AuditEvent, "seq" | "task_id" | "changes">[], current: Map<string, string>) {
  const titles = new Map<number, string>();
  const known = new Map(current);
  for (const { seq, task_id, changes } of events) {
    const { from, to } = changes.title ?? { from: null, to: null };
    const title = to ?? from ?? known.get(task_id);
    if (title !== undefined) titles.set(seq, title);
    if (from ?? title) known.set(task_id, (from ?? title)!);
  }
  return titles;
}

/** Return the title that a task is known by now, or was last. */
export function titleOf(task: Pick<Task, "title"> | null | undefined, fallback: string | undefined): string {
  return task?.title ?? fallback ?? "a task that is gone";
}

import type { Task, TaskChanges } from "daybook-client";

/** Return the fields that a form has changed; a field that shows what it showed before is left as it is. */
export function changesOf(task: Task, form: FormData): TaskChanges {
  const text = (name: string) => String(form.get(name) ?? "").replace(/\r\n/g, "\n");
  const changes: TaskChanges = {};
  const title = text("title").trim();
  if (title && title !== task.title) changes.title = title;
  if (text("description") !== (task.description ?? "")) changes.description = text("description") || null;
  if (text("priority") !== (task.priority ?? "")) changes.priority = (text("priority") || null) as Task["priority"];
  if (text("tags") !== task.tags.join(", ")) changes.tags = tagsIn(text("tags"));
  const due = text("due_date");
  const moment = due.includes("T") ? new Date(due) : null;
  const unchanged = moment ? sameMinute(moment, task.due_date) : due === (task.due_date ?? "");
  if (!unchanged) changes.due_date = moment ? moment.toISOString() : due || null;
  return changes;
}

function tagsIn(text: string): string[] {
  return [
    ...new Set(
      text
        .split(",")
        .map((tag) => tag.trim())
        .filter(Boolean),
    ),
  ];
}

function sameMinute(moment: Date, due: string | null): boolean {
  return due !== null && Math.floor(moment.getTime() / 60_000) === Math.floor(Date.parse(due) / 60_000);
}

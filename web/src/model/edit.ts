import type { Task, TaskChanges } from "daybook-client";

/** Return the fields that a form has changed; a field that shows what it showed before is left as it is. */
export function changesOf(task: Task, form: FormData): TaskChanges {
  const text = (name: string) => String(form.get(name) ?? "").replace(/\r\n/g, "\n");
  const changes: TaskChanges = {};
  const title = text("title").trim();
  if (title && title !== task.title) changes.title = title;
  if (text("description") !== (task.description ?? "")) changes.description = text("description") || null;
  if (text("priority") !== (task.priority ?? "")) changes.priority = (text("priority") || null) as Task["priority"];
  if (text("tags") !== task.tags.join(", ")) changes.tags = tagsIn(text("tags"), task.tags);
  const due = text("due_date");
  const moment = due.includes("T") ? new Date(due) : null;
  const unchanged = moment ? sameMinute(moment, task.due_date) : due === (task.due_date ?? "");
  if (!unchanged) changes.due_date = moment ? moment.toISOString() : due || null;
  return changes;
}

const MOST_TAGS = 20;
const LONGEST_TAG = 50;

/** Say what is wrong with tags that were typed; empty if nothing is. The service would refuse all of the form. */
export function tagsProblem(text: string, known: readonly string[] = []): string {
  const tags = tagsIn(text, known);
  if (tags.length > MOST_TAGS) return `These are ${tags.length} tags; a task has at most ${MOST_TAGS}.`;
  const long = tags.find((tag) => [...tag].length > LONGEST_TAG);
  return long === undefined ? "" : `“${long.slice(0, 20)}…” is too long for a tag: at most ${LONGEST_TAG} characters.`;
}

/** Read tags that are separated by commas. Those in `known` may have commas in them, and stay whole. */
function tagsIn(text: string, known: readonly string[] = []): string[] {
  const parts = text.split(",").map((part) => part.trim());
  const partsOf = new Map(known.filter((tag) => tag.includes(",")).map((tag) => [tag, tag.split(",")]));
  const tags: string[] = [];
  for (let at = 0; at < parts.length; ) {
    const found = [...partsOf].find(([, each]) => each.every((part, index) => parts[at + index] === part.trim()));
    tags.push(found ? found[0] : parts[at]!);
    at += found ? found[1].length : 1;
  }
  return [...new Set(tags.filter(Boolean))];
}

function sameMinute(moment: Date, due: string | null): boolean {
  return due !== null && Math.floor(moment.getTime() / 60_000) === Math.floor(Date.parse(due) / 60_000);
}

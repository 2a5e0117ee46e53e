import type { Task } from "daybook-client";

/** Which tasks are shown, and in which order. It stands in the address. */
export interface Filter {
  q: string;
  status: "all" | "open" | "done" | "overdue";
  priority: string;
  tag: string;
  sort: "newest" | "changed" | "title" | "due" | "priority";
}

export const NO_FILTER: Filter = { q: "", status: "all", priority: "", tag: "", sort: "newest" };

/** Read a filter from the address; unknown values count as none. */
export function filterOf(query: URLSearchParams): Filter {
  const among = <T extends string>(name: string, values: readonly T[]): T =>
    values.find((each) => each === query.get(name)) ?? values[0]!;
  return {
    q: query.get("q") ?? "",
    status: among("status", ["all", "open", "done", "overdue"]),
    priority: among("priority", ["", "high", "medium", "low", "none"]),
    tag: query.get("tag") ?? "",
    sort: among("sort", ["newest", "changed", "title", "due", "priority"]),
  };
}

/** Write a filter's parameters, without those that say nothing. */
export function queryOf(filter: Filter): Record<string, string> {
  return Object.fromEntries(
    Object.entries(filter).filter(([name, value]) => value !== NO_FILTER[name as keyof Filter]),
  );
}

/** Return the tasks that the filter shows, in its order. */
export function select(tasks: readonly Task[], filter: Filter, now: Date): Task[] {
  const words = folded(filter.q).split(/\s+/).filter(Boolean);
  const shown = tasks.filter(
    (task) =>
      ofStatus(task, filter.status, now) &&
      (!filter.priority || (task.priority ?? "none") === filter.priority) &&
      (!filter.tag || task.tags.includes(filter.tag)) &&
      words.every((word) => searched(task).includes(word)),
  );
  return shown.sort(ORDERS[filter.sort]);
}

function ofStatus(task: Task, status: Filter["status"], now: Date): boolean {
  if (status === "open") return !task.completed;
  if (status === "done") return task.completed;
  return status === "all" || isOverdue(task, now);
}

/** Say if a task is open, and was due before today, or before now if it has a time. */
export function isOverdue({ completed, due_date }: Task, now: Date): boolean {
  if (completed || !due_date) return false;
  return due_date.includes("T") ? due_date < now.toISOString() : due_date < localDay(now);
}

/** Write the day in the browser's zone, as `2026-12-01`. */
export function localDay(now: Date): string {
  const two = (number: number) => String(number).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}

/** Fold case, accents and width, as the service's own search does. */
export function folded(text: string): string {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

const texts = new WeakMap<Task, string>();

function searched(task: Task): string {
  let text = texts.get(task);
  if (text === undefined) {
    text = folded([task.title, task.description ?? "", ...task.tags].join("\n"));
    texts.set(task, text);
  }
  return text;
}

type Order = (a: Task, b: Task) => number;

const text = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const newest: Order = (a, b) => text(b.created_at, a.created_at) || text(b.id, a.id);
const collator = new Intl.Collator(undefined, { numeric: true });
const RANKS = { high: 0, medium: 1, low: 2 };

const ORDERS: Record<Filter["sort"], Order> = {
  newest,
  changed: (a, b) => text(b.updated_at, a.updated_at) || newest(a, b),
  title: (a, b) => collator.compare(a.title, b.title) || newest(a, b),
  due: (a, b) => text(a.due_date ?? "~", b.due_date ?? "~") || newest(a, b),
  priority: (a, b) => (a.priority ? RANKS[a.priority] : 3) - (b.priority ? RANKS[b.priority] : 3) || newest(a, b),
};

/** Count the tags, the most frequent first. */
export function tagsOf(tasks: readonly Task[]): string[] {
  const counts = new Map<string, number>();
  for (const task of tasks) for (const tag of task.tags) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || text(a[0], b[0])).map(([tag]) => tag);
}

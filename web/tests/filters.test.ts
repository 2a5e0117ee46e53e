import { expect, test } from "vitest";
import { changesOf } from "../src/model/edit";
import { filterOf, NO_FILTER, queryOf, select, tagsOf } from "../src/model/filters";
import { rangeOf } from "../src/ui/window";
import { taskOf } from "./support";

const NOW = new Date(2026, 10, 29, 12);
const tasks = [
  taskOf({ id: "a", title: "Buy CAFÉ", created_at: "2026-11-01", updated_at: "2026-11-09", tags: ["home"] }),
  taskOf({ id: "b", title: "Write 10", created_at: "2026-11-02", priority: "high", due_date: "2026-11-28" }),
  taskOf({
    id: "c",
    title: "Write 9",
    created_at: "2026-11-03",
    completed: true,
    due_date: "2026-11-01",
    tags: ["home", "work"],
  }),
  taskOf({
    id: "d",
    title: "Rest",
    created_at: "2026-11-04",
    priority: "low",
    description: "in the café",
    due_date: "2026-11-29",
  }),
];
const ids = (filter: Partial<typeof NO_FILTER>) =>
  select(tasks, { ...NO_FILTER, ...filter }, NOW)
    .map(({ id }) => id)
    .join("");

test.each([
  [{}, "dcba"],
  [{ q: "cafe" }, "da"],
  [{ q: "  WRITE 1" }, "b"],
  [{ q: "home buy" }, "a"],
  [{ status: "open" }, "dba"],
  [{ status: "done" }, "c"],
  [{ status: "overdue" }, "b"],
  [{ priority: "none" }, "ca"],
  [{ tag: "home" }, "ca"],
  [{ sort: "title" }, "adcb"],
  [{ sort: "due" }, "cbda"],
  [{ sort: "priority" }, "bdca"],
  [{ sort: "changed", tag: "home" }, "ca"],
] as [Partial<typeof NO_FILTER>, string][])("shows with %j the tasks %s", (filter, expected) => {
  expect(ids(filter)).toBe(expected);
});

test("writes a filter into the address and reads it again", () => {
  const filter = { ...NO_FILTER, q: "a b", status: "open", sort: "due" } as const;
  expect(queryOf(filter)).toEqual({ q: "a b", status: "open", sort: "due" });
  expect(filterOf(new URLSearchParams(queryOf(filter)))).toEqual(filter);
  expect(filterOf(new URLSearchParams("status=x&sort=y&priority=z"))).toEqual(NO_FILTER);
});

test("offers the most frequent tags first", () => {
  expect(tagsOf(tasks)).toEqual(["home", "work"]);
});

test("renders only the rows that are near the screen", () => {
  expect(rangeOf(10_000, 64, 100, 900)).toEqual({ first: 0, end: 25 });
  expect(rangeOf(10_000, 64, -64_000, 900)).toEqual({ first: 988, end: 1027 });
  expect(rangeOf(3, 64, -64_000, 900)).toEqual({ first: 0, end: 3 });
  expect(rangeOf(0, 64, 100, 900)).toEqual({ first: 0, end: 0 });
});

const form = (fields: Record<string, string>) => {
  const data = new FormData();
  const all = { title: "Buy milk", description: "", priority: "", tags: "", due_date: "", ...fields };
  for (const [name, value] of Object.entries(all)) data.set(name, value);
  return data;
};

test("sends only the fields that a form has changed", () => {
  expect(changesOf(taskOf(), form({}))).toEqual({});
  expect(changesOf(taskOf({ tags: ["a, b"] }), form({ tags: "a, b" }))).toEqual({});
  expect(changesOf(taskOf({ description: "a\nb" }), form({ description: "a\r\nb" }))).toEqual({});
  expect(changesOf(taskOf(), form({ title: "  " }))).toEqual({});
  expect(changesOf(taskOf(), form({ title: "Buy oat milk ", tags: "a,,b, a", priority: "low" }))).toEqual({
    title: "Buy oat milk",
    tags: ["a", "b"],
    priority: "low",
  });
  expect(changesOf(taskOf({ priority: "low", due_date: "2026-12-01" }), form({}))).toEqual({
    priority: null,
    due_date: null,
  });
});

test("leaves a moment as it is, to the microsecond, unless its minute is changed", () => {
  const moment = new Date(2026, 11, 1, 9, 30, 12);
  const task = taskOf({ due_date: moment.toISOString().replace("Z", "345Z") });
  expect(changesOf(task, form({ due_date: "2026-12-01T09:30" }))).toEqual({});
  const later = new Date(2026, 11, 1, 9, 31).toISOString();
  expect(changesOf(task, form({ due_date: "2026-12-01T09:31" }))).toEqual({ due_date: later });
});

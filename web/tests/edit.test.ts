import { expect, test } from "vitest";
import { changesOf, tagsProblem } from "../src/model/edit";
import { taskOf } from "./support";

function formOf(fields: Record<string, string>): FormData {
  const form = new FormData();
  const all = { title: "Buy milk", description: "", due_date: "", priority: "", tags: "", ...fields };
  for (const [name, value] of Object.entries(all)) form.set(name, value);
  return form;
}

test("tells of tags that the service would refuse, before the form is sent", () => {
  const numbered = (count: number) => Array.from({ length: count }, (_, index) => `tag ${index}`).join(", ");
  expect(tagsProblem(numbered(20))).toBe("");
  expect(tagsProblem(`${numbered(20)}, tag 1`)).toBe("");
  expect(tagsProblem(numbered(21))).toBe("These are 21 tags; a task has at most 20.");
  expect(tagsProblem("🎉".repeat(50))).toBe("");
  expect(tagsProblem("x".repeat(51))).toContain("at most 50 characters");
});

test("keeps a tag with a comma in it whole, when another one is added", () => {
  const task = taskOf({ tags: ["milk, fresh", "home"] });
  expect(changesOf(task, formOf({ tags: "milk, fresh, home" }))).toEqual({});
  expect(changesOf(task, formOf({ tags: "shop, milk, fresh, home" }))).toEqual({ tags: ["shop", "milk, fresh", "home"] });
  expect(changesOf(task, formOf({ tags: "milk, home" }))).toEqual({ tags: ["milk", "home"] });
});

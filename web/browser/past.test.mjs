// Each view of the past, in a real browser, against the real service.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { api, launch, open, sentences, titles, toast, until } from "./harness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("the history tells in words what changed, and takes it back", async (t) => {
  const { id } = await api("story", "POST", "/tasks", { title: "Buy milk", description: "Two litres of the good one" });
  await api("story", "PATCH", `/tasks/${id}`, { description: "Three litres of the good one" });
  await api("story", "PATCH", `/tasks/${id}`, { title: "Buy oat milk" });
  await api("story", "PATCH", `/tasks/${id}/complete`, { completed: true });
  await api("story", "DELETE", `/tasks/${id}`);
  const page = await open(t, browser, "story", { route: "#/history" });
  await page.getByRole("heading", { name: "Today" }).waitFor();
  const told = [
    "deleted Buy oat milk",
    "completed Buy oat milk",
    "renamed Buy oat milk",
    "changed the description of Buy milk",
    "added Buy milk",
  ];
  await until(() => sentences(page), told);
  const changed = page.locator(".timeline li", { hasText: "changed the description" });
  assert.equal(await changed.locator("del").textContent(), "Two");
  assert.equal(await changed.locator("ins").textContent(), "Three");

  await page.getByRole("button", { name: "Undo event 5, about Buy oat milk" }).click();
  await until(() => sentences(page), ["brought back Buy oat milk", ...told]);
  await page.getByRole("button", { name: "Undo event 2, about Buy milk" }).click();
  await until(async () => (await api("story", "GET", `/tasks/${id}`)).description, "Two litres of the good one");
  await api("story", "PATCH", `/tasks/${id}`, { title: "Buy soy milk" });
  await page.getByRole("button", { name: "Undo event 3, about Buy oat milk" }).click();
  await toast(page, "This has been changed again since").waitFor();

  await page.getByRole("button", { name: "Table" }).click();
  await until(() => page.locator("tbody tr").count(), 8);
  await page.getByLabel("What happened").selectOption("TaskUpdated");
  await until(() => page.locator("tbody tr td:first-child").allTextContents(), ["8", "7", "3", "2"]);
  const [csv] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "CSV" }).click()]);
  const rows = (await readFile(await csv.path(), "utf8")).trim().split("\r\n");
  assert.match(csv.suggestedFilename(), /^daybook-\d{4}-\d\d-\d\d\.csv$/);
  assert.equal(rows.length, 5);
  const [log] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "NDJSON" }).click(),
  ]);
  const lines = (await readFile(await log.path(), "utf8")).trim().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).seq),
    [8, 7, 3, 2],
  );
});

test("earlier events are read as they are asked for", async (t) => {
  const operations = Array.from({ length: 100 }, (_, index) => ({ op: "create", title: `Task ${index}` }));
  for (let batch = 0; batch < 2; batch++) await api("long", "POST", "/batch", { operations });
  await api("long", "POST", "/tasks", { title: "Last" });
  const page = await open(t, browser, "long", { route: "#/history" });
  await until(() => page.locator(".timeline > li").count(), 100);
  await page.getByRole("button", { name: "Show earlier events" }).click();
  await until(() => page.locator(".timeline > li").count(), 200);
  await page.getByRole("button", { name: "Show earlier events" }).click();
  await page.getByText("The beginning: 201 events.").waitFor();
});

test("a task's own page has its versions, and puts them back", async (t) => {
  const { id } = await api("page", "POST", "/tasks", { title: "Buy milk" });
  await api("page", "PATCH", `/tasks/${id}`, { title: "Buy oat milk" });
  await api("page", "DELETE", `/tasks/${id}`);
  const page = await open(t, browser, "page", { route: `#/task/${id}` });
  await page.getByText("It was deleted.").waitFor();
  await page.getByRole("heading", { name: "Buy oat milk" }).waitFor();
  await page.getByRole("button", { name: "Put back to version 1" }).click();
  await page.getByRole("heading", { name: "Buy milk" }).waitFor();
  await until(() => page.locator(".versions .version").allTextContents(), ["4", "3", "2", "1"]);
  await page.evaluate(() => void (location.hash = "#/task/00000000-0000-4000-8000-000000000000"));
  await page.getByText("There is no such task.").waitFor();
});

test("a deleted task is erased for good, once the user has been told what that means", async (t) => {
  const { id } = await api("erase", "POST", "/tasks", { title: "Buy milk", description: "A secret" });
  await api("erase", "PATCH", `/tasks/${id}`, { title: "Buy oat milk" });
  await api("erase", "POST", "/tasks", { title: "Call Ann" });
  await api("erase", "DELETE", `/tasks/${id}`);
  const page = await open(t, browser, "erase", { route: `#/task/${id}` });
  const erase = page.getByRole("button", { name: "Erase for good…" });
  await erase.click();
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await api("erase", "GET", "/audit")).length, 4);
  await erase.click();
  await page.getByText("This can't be undone.").waitFor();
  await page.getByLabel("Reason").fill("Ann asked for it");
  await page.getByLabel("Reason").press("Enter");
  await page.getByRole("button", { name: "Erase for good", exact: true }).click();
  await toast(page, "Erased for good.").waitFor();
  await page.getByRole("heading", { name: "An erased task" }).waitFor();
  await until(() => page.locator(".versions .version").allTextContents(), ["4", "3", "2", "1"]);
  const main = page.locator("main");
  await main.getByText("Ann asked for it").waitFor();
  assert.equal(await main.getByRole("button").count(), 0);
  assert.equal(await main.getByText(/milk|secret/i).count(), 0);

  const told = ["erased a task for good", "deleted an erased task", "added Call Ann", "changed an erased task"];
  const goTo = (hash) => page.evaluate((to) => void (location.hash = to), hash);
  await goTo("#/history");
  await until(() => sentences(page), [...told, "added an erased task"]);
  await goTo("#/time?at=3");
  await until(() => titles(page), ["Call Ann"]);
  await goTo("#/proof");
  await page.getByText("All 5 events fit together").waitFor();
  await goTo("#/learn");
  await page.getByText("The log has the same hash.").waitFor();
});

test("the slider goes through time, and puts all back to a moment", async (t) => {
  const { id: milk } = await api("time", "POST", "/tasks", { title: "Buy milk" });
  const { id: ann } = await api("time", "POST", "/tasks", { title: "Call Ann" });
  await api("time", "PATCH", `/tasks/${milk}/complete`, { completed: true });
  await api("time", "PATCH", `/tasks/${ann}`, { title: "Call Bob" });
  await api("time", "DELETE", `/tasks/${milk}`);
  const page = await open(t, browser, "time", { route: "#/time?at=3" });
  const slider = page.getByRole("slider", { name: "Events that have happened" });
  const done = () => page.locator(".row.done .text").allTextContents();
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  assert.deepEqual(await done(), ["Buy milk"]);
  await page.getByText("The past: to look at only").waitFor();
  assert.equal(await page.locator("main").getByRole("checkbox").count(), 0);
  await slider.press("ArrowRight");
  await until(() => titles(page), ["Call Bob", "Buy milk"]);
  await until(() => new URL(page.url()).hash, "#/time?at=4");
  assert.match(await slider.getAttribute("aria-valuetext"), /^4 of 5: renamed “Call Bob”$/);
  await page.getByRole("button", { name: "One event back" }).click();
  await page.getByRole("button", { name: "One event back" }).click();
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  assert.deepEqual(await done(), []);
  await slider.fill("1");
  await until(() => titles(page), ["Buy milk"]);
  await page.getByRole("button", { name: "To the beginning" }).click();
  await until(() => titles(page), []);
  await page.getByRole("button", { name: "Play" }).click();
  await page.getByText("Now", { exact: true }).waitFor();
  await until(() => titles(page), ["Call Bob"]);
  await api("time", "POST", "/tasks", { title: "Write" });
  await until(() => titles(page), ["Write", "Call Bob"]);

  await slider.fill("3");
  await page.getByRole("button", { name: "Restore all to this moment" }).click();
  await page.getByText("3 tasks would change.").waitFor();
  const told = await page.locator(".restore li").allTextContents();
  assert.deepEqual(told.sort(), ["bring back Buy milk", "delete Write", "put back the title of Call Ann"]);
  assert.equal((await api("time", "GET", "/audit")).length, 6);
  await page.getByRole("button", { name: "Restore 3 tasks" }).click();
  await toast(page, "Restored 3 tasks.").waitFor();
  await page.getByRole("button", { name: "To now" }).click();
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  await until(async () => (await api("time", "GET", "/tasks")).map(({ title }) => title), ["Call Ann", "Buy milk"]);
});

test("the last write is explained with its own values, and each new one", async (t) => {
  const page = await open(t, browser, "learn", { route: "#/learn" });
  await page.getByText("You have written nothing yet.").waitFor();
  const { id } = await api("learn", "POST", "/tasks", { title: "Buy milk" }, { "Idempotency-Key": "key-of-mine" });
  await page.getByText("The log has the same hash.").waitFor();
  await page.getByText("Idempotency-Key: key-of-mine").waitFor();
  await api("learn", "PATCH", `/tasks/${id}`, { title: "Buy oat milk" });
  await until(() => page.locator(".verdict").textContent(), "renamed Buy oat milk ");
  await page.getByText("The log has the same hash.").waitFor();
  const { hash } = await api("learn", "GET", "/audit/head");
  assert.equal((await page.locator(".result-hash").last().textContent()).slice(2), hash);
  const row = await page.getByRole("region", { name: "Task" }).textContent();
  assert.deepEqual(JSON.parse(row), await api("learn", "GET", `/tasks/${id}`));
  await api("learn", "DELETE", `/tasks/${id}`);
  await page.getByText("the row is deleted in the same transaction").waitFor();
  await api("learn", "POST", `/tasks/${id}/restore`);
  await until(() => page.locator(".verdict").textContent(), "brought back Buy oat milk ");
  await until(
    async () => JSON.parse(await page.getByRole("region", { name: "Task" }).textContent()),
    await api("learn", "GET", `/tasks/${id}`),
  );
});

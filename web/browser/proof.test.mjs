// The proof, over two visits of one browser. The suite changes the log between them.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { api, launching, tokenOf, until, url, watched } from "./harness.mjs";

/** Open the page in the browser that remembers the visit before. */
async function visit(t) {
  const context = await chromium.launchPersistentContext(process.env.PROFILE, launching);
  const page = await watched(t, context, tokenOf("proof"));
  await page.goto(`${url}/ui/#token=${tokenOf("proof")}`);
  await page.getByRole("link", { name: "Proof" }).click();
  return page;
}

const kept = (page) => page.locator(".kept li span").allTextContents();

test("first visit: all events fit, and the head is kept", async (t) => {
  const tasks = [];
  for (const title of ["Buy milk", "Call Ann", "Write"]) tasks.push(await api("proof", "POST", "/tasks", { title }));
  const page = await visit(t);
  await page.getByRole("heading", { name: "All events fit together" }).waitFor();
  await until(async () => (await kept(page)).map((text) => text.split(",")[0]), ["Event 3"]);
  await api("proof", "PATCH", `/tasks/${tasks[0].id}`, { title: "Buy oat milk" });
  await page.getByRole("button", { name: "Check again" }).click();
  await page.getByRole("heading", { name: "Nothing was changed" }).waitFor();
  await page.getByText("nothing up to event 3 was changed").waitFor();
  await until(async () => (await kept(page)).length, 2);
  const [head] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Head" }).click()]);
  assert.deepEqual(JSON.parse(await readFile(await head.path(), "utf8")), await api("proof", "GET", "/audit/head"));
  const [log] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Whole log" }).click(),
  ]);
  assert.equal((await readFile(await log.path(), "utf8")).trim().split("\n").length, 4);
});

test("changed: the event that was changed is named", async (t) => {
  const page = await visit(t);
  await page.getByRole("heading", { name: "Event 2 doesn't fit" }).waitFor();
  await page.getByText("Event 2 was changed: its hash doesn't follow from its content and the hash before.").waitFor();
  await page.locator(".evidence", { hasText: "Call Bob" }).waitFor();
  await page.getByText("The event before it fits.").waitFor();
  assert.equal((await kept(page)).length, 2);
});

test("made anew: a log that fits by itself doesn't lead to the kept head", async (t) => {
  const page = await visit(t);
  await page.getByRole("heading", { name: "Event 4 doesn't fit" }).waitFor();
  await page.getByText("The log was rewritten, at event 4 or before").waitFor();
  assert.equal((await kept(page)).length, 2);
});

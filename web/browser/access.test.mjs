// No view breaks a rule of accessibility that axe knows, light or dark, wide or narrow. Leaves a screenshot of each.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { api, launch, open } from "./harness.mjs";

const SHOTS = new URL("../screenshots/", import.meta.url).pathname;
const axe = await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const RULES = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };

let browser, id, gone;
before(async () => {
  browser = await launch();
  await mkdir(SHOTS, { recursive: true });
  ({ id, gone } = await seed("access"));
});
after(() => browser.close());

/** Tasks of all kinds, with something of a past. */
async function seed(user) {
  const make = (task) => api(user, "POST", "/tasks", task);
  const letter = await make({
    title: "Write the quarterly letter",
    description: "Begin with what went wrong, and end with what we learnt.",
    priority: "medium",
    due_date: "2026-01-27",
    tags: ["work"],
  });
  const tree = await make({ title: "Water the olive tree", tags: ["home", "garden"] });
  await make({ title: "Call Amira about the roof", due_date: "2031-12-01T09:30:00Z", tags: ["home"] });
  await make({ title: "شراء الخبز والحليب", tags: ["بيت"], description: "من المخبز القديم" });
  const passport = await make({ title: "Renew the passport", priority: "high" });
  await make({
    title: "Read the whole of a very long title that goes on and on, where a phrase would have done",
    priority: "low",
  });
  const milk = await make({ title: "Buy milk" });
  await api(user, "PATCH", `/tasks/${letter.id}`, { description: "Begin with what went well, and end with thanks." });
  await api(user, "PATCH", `/tasks/${milk.id}`, { title: "Buy oat milk" });
  await api(user, "PATCH", `/tasks/${tree.id}/complete`, { completed: true });
  await api(user, "PATCH", `/tasks/${passport.id}`, { priority: "medium", due_date: "2032-01-15" });
  await api(user, "DELETE", `/tasks/${milk.id}`);
  return { id: letter.id, gone: milk.id };
}

const VIEWS = {
  tasks: ["#/tasks", (page) => page.locator(".row").first().waitFor()],
  editing: [
    "#/tasks",
    async (page) => {
      await page.locator(".row .title", { hasText: "letter" }).click();
      await page.locator(".editing [name=title]:focus").waitFor(); // the form has been scrolled to
    },
  ],
  toast: [
    "#/tasks",
    async (page) => {
      await page.locator(".row .title", { hasText: "passport" }).click();
      await page.locator(".editing").getByRole("button", { name: "Delete" }).click();
      await page.locator(".toast").getByRole("button", { name: "Undo" }).click();
      await page.locator(".row .title", { hasText: "passport" }).waitFor();
      await page.keyboard.press("?");
      await page.getByRole("heading", { name: "Keyboard" }).waitFor();
    },
  ],
  history: ["#/history", (page) => page.locator(".timeline > li").first().waitFor()],
  table: ["#/history?view=table", (page) => page.locator("tbody tr").first().waitFor()],
  task: [() => `#/task/${id}`, (page) => page.locator("summary").first().click()],
  erase: [
    () => `#/task/${gone}`,
    async (page) => {
      await page.getByRole("button", { name: "Erase for good…" }).click();
      await page.getByRole("heading", { name: "Erase “Buy oat milk” for good?" }).waitFor();
    },
  ],
  time: ["#/time?at=10", (page) => page.locator(".past .row").first().waitFor()],
  restore: [
    "#/time?at=10",
    async (page) => {
      await page.getByRole("button", { name: "Restore all to this moment" }).click();
      await page.locator(".restore li").first().waitFor();
    },
  ],
  learn: ["#/learn", (page) => page.locator(".agrees").waitFor()],
  proof: ["#/proof", (page) => page.locator(".fits").waitFor()],
  waiting: [
    "#/tasks",
    async (page) => {
      await page.route("**/complete", (route) => route.fulfill({ status: 403, body: "<html>" }));
      await page.getByLabel("Done: Renew the passport").check();
      await page.getByText("“Renew the passport” can't be sent").waitFor();
    },
  ],
  leaving: [
    "#/tasks",
    async (page) => {
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByText("One change hasn't been sent. Sign out and lose it?").waitFor();
    },
  ],
};

for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`nothing is to be found, ${colorScheme}, ${width} pixels wide`, async (t) => {
      const context = { colorScheme, viewport: { width, height: width > 800 ? 800 : 720 }, reducedMotion: "reduce" };
      const page = await open(t, browser, "access", { context });
      await page.evaluate(axe);
      for (const [name, [route, ready]] of Object.entries(VIEWS)) {
        await page.evaluate((hash) => void (location.hash = hash), typeof route === "string" ? route : route());
        await ready(page);
        await page.evaluate(() => scrollTo(0, 0)); // else rows that lie half under the header count as too small
        const found = await page.evaluate(async (rules) => {
          const { violations } = await globalThis.axe.run(document, rules);
          return violations.map(({ id, nodes }) => [
            id,
            nodes.map(({ html, failureSummary }) => html + failureSummary),
          ]);
        }, RULES);
        await page.screenshot({ path: `${SHOTS}${name}-${colorScheme}-${width}.png` });
        assert.deepEqual(found, [], name);
        if (["toast", "erase", "restore", "leaving"].includes(name)) await page.keyboard.press("Escape");
      }
      await page.getByRole("button", { name: "Discard this change" }).click();
      await page.getByText("can't be sent").waitFor({ state: "hidden" });
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByRole("dialog").waitFor();
      const found = await page.evaluate((rules) => globalThis.axe.run(document, rules), RULES);
      assert.deepEqual(
        found.violations.map(({ id }) => id),
        [],
        "sign-in",
      );
      await page.screenshot({ path: `${SHOTS}sign-in-${colorScheme}-${width}.png` });
    });
  }
}

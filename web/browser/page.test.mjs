// Signing in and the tasks, in a real browser, against the real service.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { add, api, launch, open, sentences, titles, toast, tokenOf, until, url, watched } from "./harness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const edit = (page, title) => page.locator(".row .title", { hasText: title }).click();

test("the printed link signs in, and the token is nowhere to be seen", async (t) => {
  const link = process.env.DAYBOOK_LINK;
  const page = await watched(t, await browser.newContext(), link.split("#token=")[1]);
  await page.goto(link);
  await add(page, "Buy milk");
  await until(() => titles(page), ["Buy milk"]);
  assert.equal(page.url(), `${url}/ui/#/tasks`);
  await page.reload();
  await until(() => titles(page), ["Buy milk"]);
  await page.getByRole("link", { name: "History", exact: true }).click();
  await until(() => sentences(page), ["added Buy milk"]);
  await page.goBack();
  await until(() => titles(page), ["Buy milk"]);
  assert.ok(
    !(await page.evaluate(() => JSON.stringify(performance.getEntries().map(({ name }) => name)))).includes("token="),
  );
});

test("tasks are added, completed, edited in place, deleted and brought back", async (t) => {
  const page = await open(t, browser, "tasks");
  await page.getByText("Nothing to do yet.").waitFor();
  for (const title of ["Buy milk", "Call Ann", "Écrire"]) await add(page, title);
  await until(() => titles(page), ["Écrire", "Call Ann", "Buy milk"]);
  await page.getByLabel("Done: Call Ann").check();
  await until(
    async () => (await api("tasks", "GET", "/tasks?status=completed")).map(({ title }) => title),
    ["Call Ann"],
  );

  await edit(page, "Buy milk");
  await page.getByLabel("Title").fill("Buy oat milk");
  await page.getByLabel("Description").fill("2 litres");
  await page.getByLabel("Due", { exact: true }).fill("2027-01-15");
  await page.locator(".editing").getByLabel("Priority").selectOption("high");
  await page.getByLabel("Tags, by commas").fill("home, shop");
  await page.getByRole("button", { name: "Save" }).click();
  const read = async () => {
    const [{ title, description, due_date, priority, tags }] = await api("tasks", "GET", "/tasks?q=oat");
    return [title, description, due_date, priority, tags];
  };
  await until(() => read().catch(() => null), ["Buy oat milk", "2 litres", "2027-01-15", "high", ["home", "shop"]]);

  await page.locator(".row", { hasText: "Écrire" }).hover();
  await page.getByRole("button", { name: "Delete Écrire" }).click();
  await page.locator(".row .title:focus").waitFor(); // the row that has come in its place
  await until(() => titles(page), ["Call Ann", "Buy oat milk"]);
  await until(async () => (await api("tasks", "GET", "/tasks")).length, 2);
  await toast(page, "Deleted “Écrire”.").getByRole("button", { name: "Undo" }).click();
  await until(() => titles(page), ["Écrire", "Call Ann", "Buy oat milk"]);

  await page.getByLabel("Search").fill("ecrire");
  await until(() => titles(page), ["Écrire"]);
  assert.match(page.url(), /#\/tasks\?q=ecrire$/);
  await page.getByLabel("Search").fill("");
  await page.getByLabel("Open", { exact: true }).check({ force: true });
  await until(() => titles(page), ["Écrire", "Buy oat milk"]);
  await page.getByLabel("Priority").selectOption("high");
  await until(() => titles(page), ["Buy oat milk"]);
  await page.getByLabel("Priority").selectOption("");
  await page.getByLabel("All", { exact: true }).check({ force: true });
  await page.getByLabel("Order").selectOption("title");
  await until(() => titles(page), ["Buy oat milk", "Call Ann", "Écrire"]);
});

test("everything can be done by keyboard alone", async (t) => {
  const page = await open(t, browser, "keys");
  await page.getByText("Nothing to do yet.").waitFor();
  const keys = async (...pressed) => {
    for (const key of pressed) await page.keyboard.press(key);
  };
  for (const title of ["One", "Two"]) {
    await keys("n");
    await page.keyboard.type(title);
    await keys("Enter", "Escape", "Tab");
  }
  await until(() => titles(page), ["Two", "One"]);
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await page.locator("main").focus();
  await keys("j");
  await until(focused, "Two");
  await keys("j");
  await until(focused, "One");
  await keys("k", "x");
  await until(async () => (await api("keys", "GET", "/tasks?status=completed")).map(({ title }) => title), ["Two"]);
  await until(focused, "Two");
  await keys("e");
  await until(() => page.evaluate(() => document.activeElement.name), "title");
  await page.keyboard.type(" and a half");
  await keys("Enter");
  await until(() => titles(page), ["Two and a half", "One"]);
  await until(async () => (await api("keys", "GET", "/audit"))[0].type, "TaskUpdated");
  await until(focused, "Two and a half");
  await keys("u");
  await until(() => titles(page), ["Two", "One"]);
  await keys("/");
  await page.keyboard.type("one");
  await until(() => titles(page), ["One"]);
  await page.locator("main").focus();
  await keys("j");
  await until(focused, "One");
  await keys("h");
  await page.getByRole("heading", { name: "One" }).waitFor();
  await until(() => page.evaluate(() => document.activeElement.tagName), "MAIN");
  await keys("?");
  await page.getByRole("heading", { name: "Keyboard" }).waitFor();
  await page.getByLabel("Keys are on").press("Space");
  await keys("Escape");
  await page.getByRole("heading", { name: "Keyboard" }).waitFor({ state: "hidden" });
  await keys("?");
  assert.equal(await page.getByRole("heading", { name: "Keyboard" }).isVisible(), false);
  await page.evaluate(() => document.querySelector(".skip").focus());
  assert.equal(await page.getByRole("button", { name: "Skip to the content" }).isVisible(), true);
});

test("a row that is gone before its frame isn't focused", async (t) => {
  await api("left", "POST", "/tasks", { title: "Buy milk" });
  const page = await open(t, browser, "left", { route: "#/tasks" });
  await page.locator(".row").first().waitFor();
  await page.evaluate(() => {
    const frame = requestAnimationFrame;
    globalThis.requestAnimationFrame = (draw) => setTimeout(frame, 200, draw); // frames of a busy machine
  });
  await page.keyboard.press("j");
  await page.evaluate(() => void (location.hash = "#/learn"));
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.waitForTimeout(400);
});

test("two windows follow each other", async (t) => {
  const [one, other] = [await open(t, browser, "pair"), await open(t, browser, "pair", { route: "#/history" })];
  await other.getByRole("heading", { name: "History" }).waitFor();
  await add(one, "Buy milk");
  await until(() => sentences(other), ["added Buy milk"]);
  await other.getByRole("link", { name: "Tasks" }).click();
  await until(() => titles(other), ["Buy milk"]);
  await other.getByLabel("Done: Buy milk").check();
  await until(() => one.getByLabel("Done: Buy milk").isChecked(), true);
  await add(other, "Call Ann");
  await until(() => titles(one), ["Call Ann", "Buy milk"]);
  await edit(one, "Buy milk");
  await one.getByLabel("Title").fill("Buy oat milk");
  await one.getByLabel("Description").fill("2 litres");
  await add(other, "Write");
  await one.getByText("3 tasks").waitFor();
  assert.equal(await one.getByLabel("Title").inputValue(), "Buy oat milk");
  assert.equal(await one.getByLabel("Description").inputValue(), "2 litres");
});

test("changes wait while the network is away, and are sent once", async (t) => {
  await api("away", "POST", "/tasks", { title: "Buy milk" });
  const page = await open(t, browser, "away");
  await until(() => titles(page), ["Buy milk"]);
  await page.context().setOffline(true);
  await page.getByText("You are offline.").waitFor();
  await add(page, "Call Ann");
  await page.getByLabel("Done: Call Ann").check();
  await page.getByLabel("Done: Buy milk").check();
  await page.getByText("3 changes wait, and will be sent.").waitFor();
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  assert.equal((await api("away", "GET", "/audit")).length, 1);
  await api("away", "POST", "/tasks", { title: "From elsewhere" });
  await page.context().setOffline(false);
  await until(() => titles(page), ["Call Ann", "From elsewhere", "Buy milk"]);
  await page.getByText("You are offline.").waitFor({ state: "hidden" });
  await until(async () => (await api("away", "GET", "/tasks?status=completed")).length, 2);
  assert.equal((await api("away", "GET", "/audit")).length, 5);
});

test("undo takes back what was done last, also if that is still on its way", async (t) => {
  for (const title of ["Buy milk", "Call Ann"]) await api("hasty", "POST", "/tasks", { title });
  const page = await open(t, browser, "hasty");
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  let answer;
  const asked = new Promise((resolve) => (answer = resolve));
  await page.route("**/complete", async (route) => {
    await asked;
    await route.continue();
  });
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.keyboard.press("u");
  answer();
  await toast(page, "Undone: “Call Ann” is as it was before.").waitFor();
  assert.deepEqual(await titles(page), ["Call Ann", "Buy milk"]);
  const types = (await api("hasty", "GET", "/audit")).map(({ type }) => type);
  assert.deepEqual(types, ["TaskToggled", "TaskToggled", "TaskCreated", "TaskCreated"]);
});

test("what is typed into a form stays when its task is completed or deleted elsewhere", async (t) => {
  const { id } = await api("typing", "POST", "/tasks", { title: "Buy milk" });
  const page = await open(t, browser, "typing", { route: "#/tasks?status=open" });
  await edit(page, "Buy milk");
  await page.getByLabel("Description").fill("2 litres");
  await api("typing", "PATCH", `/tasks/${id}/complete`, { completed: true });
  await page.getByText("0 of 1 task").waitFor();
  assert.equal(await page.getByLabel("Description").inputValue(), "2 litres");
  await api("typing", "DELETE", `/tasks/${id}`);
  await page.getByText("0 tasks").waitFor();
  assert.equal(await page.getByLabel("Description").inputValue(), "2 litres");
  await page.getByRole("button", { name: "Save" }).click();
  await toast(page, "“Buy milk” was deleted elsewhere, so your change wasn't made.").waitFor();
});

test("a message about something that wasn't done stays until it is dismissed", async (t) => {
  await api("told", "POST", "/tasks", { title: "Buy milk" });
  const token = tokenOf("told");
  const page = await watched(t, await browser.newContext(), token);
  await page.clock.install();
  await page.goto(`${url}/ui/#token=${token}`);
  const problem = { type: "/problems/read-only", title: "", status: 403, detail: "This token may only read." };
  await page.route("**/complete", (route) => route.fulfill({ status: 403, json: problem }));
  await page.getByLabel("Done: Buy milk").click();
  const refused = toast(page, "“Buy milk”: This token may only read.");
  await refused.waitFor();
  for (const title of ["One", "Two", "Three", "Four"]) {
    await add(page, title);
    await page.locator(".row", { hasText: title }).hover();
    await page.getByRole("button", { name: `Delete ${title}` }).click();
  }
  await until(() => page.locator(".toast").count(), 4);
  await page.getByLabel("New task").hover();
  await page.clock.fastForward(60_000);
  await until(() => page.locator(".toast").count(), 1);
  await refused.getByRole("button", { name: "Dismiss" }).click();
  await until(() => page.locator(".toast").count(), 0);
});

test("a change of an older version is taken back, and can be made anyway", async (t) => {
  const { id } = await api("stale", "POST", "/tasks", { title: "Buy milk" });
  const page = await open(t, browser, "stale");
  await until(() => titles(page), ["Buy milk"]);
  await page.context().setOffline(true);
  await page.getByText("You are offline.").waitFor();
  await page.getByLabel("Done: Buy milk").check();
  await api("stale", "PATCH", `/tasks/${id}`, { title: "Buy oat milk" });
  await page.context().setOffline(false);
  const told = toast(page, "“Buy milk” was changed elsewhere, so your change wasn't made.");
  await told.waitFor();
  await until(() => titles(page), ["Buy oat milk"]);
  assert.equal(await page.getByLabel("Done: Buy oat milk").isChecked(), false);
  await told.getByRole("button", { name: "Make it anyway" }).click();
  await until(async () => (await api("stale", "GET", `/tasks/${id}`)).completed, true);
  assert.equal(await page.getByLabel("Done: Buy oat milk").isChecked(), true);
});

test("a change that a proxy refuses waits, and can be given up", async (t) => {
  for (const title of ["Buy milk", "Call Ann"]) await api("walled", "POST", "/tasks", { title });
  const page = await open(t, browser, "walled");
  await until(() => titles(page), ["Call Ann", "Buy milk"]);
  let first;
  await page.route("**/complete", (route) => {
    first ??= route.request().url();
    return route.request().url() === first ? route.fulfill({ status: 403, body: "<html>" }) : route.continue();
  });
  await page.getByLabel("Done: Buy milk").check();
  await page.getByLabel("Done: Call Ann").check();
  await page.getByText("“Buy milk” can't be sent: The tasks can't be reached (403). 2 changes wait.").waitFor();
  assert.equal(await page.getByLabel("Done: Buy milk").isChecked(), true);
  await page.getByRole("button", { name: "Discard this change" }).click();
  await until(async () => (await api("walled", "GET", "/tasks?status=completed")).map(({ title }) => title), ["Call Ann"]);
  assert.equal(await page.getByLabel("Done: Buy milk").isChecked(), false);
  await page.getByText("can't be sent").waitFor({ state: "hidden" });
});

test("a tab that nobody looks at holds no connection, and catches up once it is looked at", async (t) => {
  const page = await open(t, browser, "hidden");
  const feeds = new Set();
  page.on("request", (request) => request.url().endsWith("/audit/stream") && feeds.add(request));
  page.on("requestfailed", (request) => feeds.delete(request));
  await page.reload(); // the first feed may have begun before anybody counted
  await until(() => feeds.size, 1);
  const look = (at) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, !at);
  await look(false);
  await until(() => feeds.size, 0);
  await api("hidden", "POST", "/tasks", { title: "Buy milk" });
  assert.deepEqual(await titles(page), []);
  await look(true);
  await until(() => titles(page), ["Buy milk"]);
});

test("a token that is refused asks to sign in again, and nothing is lost", async (t) => {
  const page = await open(t, browser, "ended");
  await add(page, "Buy milk");
  await until(() => titles(page), ["Buy milk"]);
  const refused = tokenOf("ended", { key: "another key, which the service doesn't know" });
  await page.evaluate((token) => void (location.hash = `token=${token}`), refused);
  await page.getByText("Your sign-in has ended. Sign in again to go on.").waitFor();
  await page.getByLabel("Link or token").fill(tokenOf("ended", { seconds: -60 }));
  await page.getByRole("dialog").getByRole("button", { name: "Sign in" }).click();
  await until(() => page.getByLabel("Link or token").inputValue(), ""); // it was taken, and refused by the service
  await page.getByText("Your sign-in has ended. Sign in again to go on.").waitFor();
  await page.getByLabel("Link or token").fill(`${url}/ui/#token=${tokenOf("ended")}`);
  await page.getByRole("dialog").getByRole("button", { name: "Sign in" }).click();
  await add(page, "Call Ann");
  await until(async () => (await api("ended", "GET", "/tasks")).map(({ title }) => title), ["Call Ann", "Buy milk"]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("dialog").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("daybook.token")), null);
});

test("signing out asks before changes are lost, and leaves nothing of them behind", async (t) => {
  await api("leaver", "POST", "/tasks", { title: "Buy milk" });
  const page = await open(t, browser, "leaver");
  await until(() => titles(page), ["Buy milk"]);
  const kept = () => page.evaluate(() => Object.keys(sessionStorage).filter((name) => name.startsWith("daybook.out")));
  await page.context().setOffline(true);
  await page.getByText("You are offline.").waitFor();
  await add(page, "Nobody's business");
  await page.getByLabel("Done: Buy milk").check();
  await until(kept, ["daybook.outbox.leaver"]);
  const question = page.getByText("2 changes haven't been sent. Sign out and lose them?");
  await page.getByRole("button", { name: "Sign out" }).click();
  await question.waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await question.waitFor({ state: "hidden" });
  await until(() => titles(page), ["Nobody's business", "Buy milk"]);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign out and lose them" }).click();
  await page.getByLabel("Link or token").waitFor();
  assert.deepEqual(await kept(), []);
  await page.context().setOffline(false);
  await page.getByLabel("Link or token").fill(tokenOf("leaver"));
  await page.getByRole("dialog").getByRole("button", { name: "Sign in" }).click();
  await until(() => titles(page), ["Buy milk"]);
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.equal((await api("leaver", "GET", "/audit")).length, 1);
});

test("closing the tab asks first while changes wait", async (t) => {
  const page = await open(t, browser, "closer");
  await page.getByText("Nothing to do yet.").waitFor();
  const asks = () => page.evaluate(() => !dispatchEvent(new Event("beforeunload", { cancelable: true })));
  assert.equal(await asks(), false);
  await page.context().setOffline(true);
  await page.getByText("You are offline.").waitFor();
  await add(page, "Buy milk");
  await until(asks, true);
  await page.context().setOffline(false);
  await until(async () => (await api("closer", "GET", "/tasks")).length, 1);
  await until(asks, false);
});

test("a clock that is wrong doesn't keep anybody out", async (t) => {
  const context = await browser.newContext();
  const token = tokenOf("skewed");
  const page = await watched(t, context, token);
  await page.clock.setFixedTime(Date.now() + 7 * 86_400_000);
  await page.goto(`${url}/ui/#token=${token}`);
  await add(page, "Buy milk");
  await until(async () => (await api("skewed", "GET", "/tasks")).map(({ title }) => title), ["Buy milk"]);
});

test("a link that was cut off says so", async (t) => {
  const page = await open(t, browser, "cut", { token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIi" });
  await page.getByText("That isn't a whole token.").waitFor();
});

test("what a title says is text, and nothing else", async (t) => {
  const tricks = [
    `<img src=x onerror="alert(1)">`,
    `<script>alert(2)</script>`,
    `"><svg onload=alert(3)>`,
    `javascript:alert(4)`,
    `{{7*7}} \${alert(5)} &lt;b&gt;`,
    `<a href="https://evil.example/">x</a><iframe src=//evil.example>`,
  ];
  for (const title of tricks) {
    const { id } = await api("tricks", "POST", "/tasks", { title, description: title, tags: [title.slice(0, 50)] });
    await api("tricks", "PATCH", `/tasks/${id}`, { title: `${title} again` });
  }
  const page = await open(t, browser, "tricks");
  await until(() => titles(page), tricks.map((title) => `${title} again`).reverse());
  for (const trick of tricks) await add(page, trick);
  await page.locator(".row", { hasText: "<img" }).first().hover();
  await page
    .getByRole("button", { name: `Delete ${tricks[0]}`, exact: true })
    .first()
    .click();
  await toast(page, tricks[0]).waitFor();
  await page.getByRole("link", { name: "History", exact: true }).click();
  await page.locator(".timeline li", { hasText: "renamed" }).first().waitFor();
  const foreign = "main :is(img, script, iframe, b), main a[href]:not([href^='#/']), main svg[onload], [onerror]";
  assert.equal(await page.locator(foreign).count(), 0);
  await page
    .getByRole("link", { name: `${tricks[2]} again` })
    .first()
    .click();
  await page.getByRole("heading", { name: `${tricks[2]} again` }).waitFor();
  assert.equal(await page.locator(foreign).count(), 0);
});

test("thousands of tasks are in the list, and few of them in the document", async (t) => {
  const operations = (batch) =>
    Array.from({ length: 100 }, (_, index) => ({ op: "create", title: `Task ${batch * 100 + index + 1}` }));
  for (let batch = 0; batch < 12; batch++) await api("many", "POST", "/batch", { operations: operations(batch) });
  const page = await open(t, browser, "many");
  await page.getByText("1,200 tasks").waitFor();
  const last = page.locator(".row", { hasText: /^Task 1$/ });
  assert.ok((await page.locator(".row").count()) < 60);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await last.waitFor();
  assert.ok((await page.locator(".row").count()) < 60);
  assert.equal(await last.getAttribute("aria-posinset"), "1200");
});

test("without room, nothing scrolls sideways", async (t) => {
  const long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft".repeat(3);
  const { id } = await api("narrow", "POST", "/tasks", { title: long, description: long, tags: [long.slice(0, 50)] });
  await api("narrow", "POST", "/tasks", { title: "شراء الخبز والحليب", tags: ["بيت"] });
  await api("narrow", "PATCH", `/tasks/${id}`, { title: `${long} 👨‍👩‍👧‍👦` });
  const page = await open(t, browser, "narrow", { context: { viewport: { width: 320, height: 640 } } });
  for (const route of [
    "#/tasks",
    "#/history",
    "#/history?view=table",
    `#/task/${id}`,
    "#/time?at=2",
    "#/proof",
    "#/learn",
  ]) {
    await page.evaluate((hash) => void (location.hash = hash), route);
    await page.locator("main").waitFor();
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320, route);
  }
  await page.evaluate(() => void (location.hash = "#/tasks"));
  await edit(page, "شراء");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  assert.equal(await page.getByLabel("Title").evaluate((input) => getComputedStyle(input).direction), "rtl");
});

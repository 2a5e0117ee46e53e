import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startStack } from "./stack.mjs";
import { add, launch, row, Visitor } from "./visitor.mjs";

/** @type {Awaited<ReturnType<typeof startStack>>} */
let stack;
/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Set<string>} */
const hosts = new Set();

before(async () => {
  [stack, browser] = await Promise.all([startStack(), launch()]);
});
after(async () => {
  await browser?.close();
  await stack?.stop();
});

/** @param {import("node:test").TestContext} test */
async function arrive(test) {
  const visitor = await Visitor.arrive(browser, stack.url, hosts);
  test.after(() => visitor.context.close());
  return visitor;
}

describe("a user's tasks", { concurrency: true }, () => {
  it("are added, completed, edited and deleted, and a second window follows", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    const second = await ann.open();
    await add(page, "Buy milk");
    await row(second, "Buy milk").waitFor();

    await row(page, "Buy milk").getByRole("checkbox").click();
    await second.getByRole("checkbox", { checked: true }).waitFor();

    await row(second, "Buy milk").getByRole("button", { name: "Edit" }).click();
    await second.getByLabel("Title").fill("Buy oat milk");
    await second.getByRole("button", { name: "Save" }).click();
    await row(page, "Buy oat milk").waitFor();
    assert.match(await (await ann.context.request.get("/")).text(), /Buy oat milk/, "the server renders the list");

    await row(page, "Buy oat milk").getByRole("button", { name: "Delete" }).click();
    await row(second, "Buy oat milk").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    await row(second, "Buy oat milk").waitFor();
    assert.deepEqual(await ann.events(), ["TaskCreated", "TaskToggled", "TaskUpdated", "TaskDeleted", "TaskRestored"]);
  });

  it("fit on a narrow screen, with long words too", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await page.setViewportSize({ width: 360, height: 740 });
    const long = `Call ${"Bob".repeat(60)}`;
    await add(page, long);
    await row(page, long).getByRole("button", { name: "History" }).click();
    await page.getByRole("dialog").getByText("Created").waitFor();
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360, "nothing is cut off");
    const box = await row(page, long).getByRole("button", { name: "Delete" }).boundingBox();
    assert.ok(box && box.height >= 24, "a finger finds the buttons");
  });

  it("have a history that takes back what is chosen there", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await add(page, "Call Bob");
    await row(page, "Call Bob").getByRole("checkbox").click();
    await row(page, "Call Bob").getByRole("button", { name: "History" }).click();
    const history = page.getByRole("dialog", { name: "History" });
    await history.getByText("Created").waitFor();
    const completed = history.getByRole("listitem").filter({ hasText: "Completed" });
    await completed.getByRole("button", { name: "Undo this" }).click();
    await history.getByRole("listitem").nth(2).waitFor(); // the undo is an event, too
    await history.getByRole("button", { name: "Close" }).click();
    await page.getByRole("checkbox", { checked: false }).waitFor();
  });

  it("leave nothing behind when the user signs out, in no window", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    const second = await ann.open();
    await add(page, "A secret of Ann's");
    await row(second, "A secret of Ann's").waitFor();
    const list = `/daybook/api/${ann.id}/tasks`;
    assert.ok(await page.evaluate(async (path) => (await fetch(path)).ok, list)); // the browser might keep the answer
    await page.goto("/?once-more"); // so that there is a page to go back to
    await row(page, "A secret of Ann's").waitFor();

    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL("**/sign-in");
    await second.waitForURL("**/sign-in");
    await page.goBack();
    await page.getByRole("button", { name: "Sign in" }).waitFor();

    const bob = new Visitor(ann.context, hosts); // at the same browser
    const pages = [page, second, await bob.signUp()];
    assert.equal((await bob.fetch("/tasks").then((answer) => answer.json())).length, 0);
    const cached = await page.evaluate(async (path) => {
      const answer = await fetch(path, { cache: "only-if-cached", mode: "same-origin" }).catch(() => null);
      return answer?.ok ? answer.text() : null;
    }, list);
    assert.equal(cached, null, "the browser has kept an answer");
    for (const each of pages) {
      const kept = await each.evaluate(async () =>
        JSON.stringify([
          document.documentElement.outerHTML,
          document.cookie,
          { ...localStorage },
          { ...sessionStorage },
          await indexedDB.databases(),
          await caches.keys(),
        ]),
      );
      for (const trace of ["A secret", ann.id, ann.email, ann.name]) assert.ok(!kept.includes(trace), kept);
    }
  });

  it("are changed without a network, and each change is made once when it is back", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await ann.context.setOffline(true);
    for (const title of ["One", "Two", "Three"]) await add(page, title);
    assert.deepEqual(await ann.events(), []);
    await ann.context.setOffline(false);
    await ann.sent(page);
    assert.deepEqual(await ann.events(), ["TaskCreated", "TaskCreated", "TaskCreated"]);
    assert.equal(await page.getByRole("listitem").count(), 3);
  });

  it("are kept by a reload while changes wait to be sent", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await ann.context.route("**/daybook/**", (route) => route.abort("internetdisconnected"));
    await add(page, "One");
    await add(page, "Two");
    await page.reload();
    await row(page, "One").waitFor();
    await row(page, "Two").waitFor();
    assert.deepEqual(await ann.events(), []);
    await ann.context.unroute("**/daybook/**");
    await ann.sent(page);
    assert.deepEqual(await ann.events(), ["TaskCreated", "TaskCreated"]);
  });

  it("don't wait for ever for a change that something on the way refuses", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await ann.context.route("**/daybook/**/tasks", (route, request) =>
      request.postData()?.includes("by a proxy") ? route.fulfill({ status: 413 }) : route.continue(),
    );
    await add(page, "Refused by a proxy");
    await add(page, "Behind it");
    await page.getByRole("button", { name: "Discard the first of them" }).click();
    await row(page, "Refused by a proxy").waitFor({ state: "detached" });
    await ann.sent(page);
    assert.equal(await page.getByRole("status").count(), 0);
    assert.deepEqual(await ann.events(), ["TaskCreated"]);
    await row(page, "Behind it").waitFor();
  });

  it("aren't overwritten: who was second is told, and what to do", async (test) => {
    const ann = await arrive(test);
    const page = await ann.signUp();
    await add(page, "Buy milk");
    await ann.made(1);
    const second = await ann.open();
    await row(second, "Buy milk").getByRole("button", { name: "Edit" }).click();
    await row(page, "Buy milk").getByRole("button", { name: "Edit" }).click();
    await page.getByLabel("Title").fill("Buy oat milk");
    await page.getByRole("button", { name: "Save" }).click();
    await ann.made(2); // before, the second change would wait behind it, and be made on top of it
    await ann.sent(page);
    await second.getByLabel("Title").fill("Buy soy milk");
    await second.getByRole("button", { name: "Save" }).click();
    const notice = await second.getByRole("alert").filter({ hasText: "changed elsewhere" }).textContent();
    assert.match(notice ?? "", /to “Buy soy milk” wasn't made.*change it again if you still want to/);
    await row(second, "Buy oat milk").waitFor();
    assert.deepEqual(await ann.events(), ["TaskCreated", "TaskUpdated"]);
  });

  it("are reached through the proxy by their user's own pages only", async (test) => {
    const ann = await arrive(test);
    await ann.signUp();
    const post = (/** @type {Record<string, string>} */ headers) =>
      ann.fetch("/tasks", { method: "POST", headers, data: { title: "Buy milk" } });
    assert.equal((await post({ Origin: "https://evil.example" })).status(), 403);
    assert.equal((await post({})).status(), 403, "browsers always send an Origin with a write");
    assert.deepEqual(await ann.events(), []);

    const keyed = { Origin: stack.url, "Idempotency-Key": "a-key" };
    const made = await post(keyed);
    assert.equal(made.status(), 201);
    assert.equal((await post(keyed)).headers()["idempotency-replayed"], "true");
    const { id } = await made.json();
    const { etag = "" } = made.headers();
    assert.equal((await ann.fetch(`/tasks/${id}`, { headers: { "If-None-Match": etag } })).status(), 304);
    const stale = { Origin: stack.url, "If-Match": '"7"' };
    assert.equal((await ann.fetch(`/tasks/${id}`, { method: "DELETE", headers: stale })).status(), 412);
    assert.equal((await ann.fetch(`/tasks/${id}`, { method: "HEAD" })).status(), 200);
    assert.equal((await ann.fetch(`/tasks/${id}`, { method: "DELETE", headers: keyed })).status(), 422);
    const own = { Origin: stack.url };
    assert.equal((await ann.fetch(`/tasks/${id}`, { method: "DELETE", headers: own })).status(), 204);

    for (const path of ["/tasks/..%2F..%2Fsomebody%2Ftasks", "/%2e%2e%2fsomebody/tasks"]) {
      assert.equal((await ann.fetch(path)).status(), 404, path);
    }
    const elses = await ann.context.request.get("/daybook/api/somebody/tasks");
    assert.equal(elses.status(), 403);
    const strangers = await (await arrive(test)).context.request.get(`/daybook/api/${ann.id}/tasks`);
    assert.equal(strangers.status(), 401);
    assert.deepEqual(await ann.events(), ["TaskCreated", "TaskDeleted"]);
  });
});

it("keeps a password out of the address before React handles the form", async (test) => {
  const context = await browser.newContext({ baseURL: stack.url, javaScriptEnabled: false });
  test.after(() => context.close());
  const page = await context.newPage();
  await page.goto("/sign-in");
  await page.getByLabel("Email").fill("ann@example.com");
  await page.getByLabel("Password").fill("a long password");
  await page.getByLabel("Password").press("Enter");
  await page.getByRole("button", { name: "Sign in", disabled: true }).waitFor();
  assert.equal(new URL(page.url()).search, "");
});

it("goes on when Better Auth has new keys", async (test) => {
  const ann = await arrive(test);
  const page = await ann.signUp();
  const second = await ann.open();
  await add(page, "Before");
  await row(second, "Before").waitFor();
  const { rowCount } = await stack.users.query("DELETE FROM jwks");
  assert.equal(rowCount, 1);
  await add(page, "After");
  await row(second, "After").waitFor();
  await ann.sent(page);
  assert.deepEqual(await ann.events(), ["TaskCreated", "TaskCreated"]);
  assert.equal((await stack.users.query("SELECT FROM jwks")).rowCount, 1);
});

it("goes on when the service was restarted", async (test) => {
  const ann = await arrive(test);
  const page = await ann.signUp();
  const second = await ann.open();
  await add(page, "Before");
  await row(second, "Before").waitFor();
  await stack.stopDaybook();
  await add(page, "Meanwhile");
  await stack.startDaybook();
  await row(second, "Meanwhile").waitFor();
  await ann.sent(page);
  assert.deepEqual(await ann.events(), ["TaskCreated", "TaskCreated"]);
});

it("has sent nothing to another host", () => {
  assert.deepEqual([...hosts], [new URL(stack.url).host]);
});

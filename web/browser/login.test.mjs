// Signing in by the operator's own page, which comes back with a token and the tab's state.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { add, launch, titles, tokenOf, until, url } from "./harness.mjs";

let browser, login;
const asked = [];
const answers = { user: "login", state: undefined };

before(async () => {
  browser = await launch();
  login = createServer((request, response) => {
    const given = new URL(request.url, "http://login").searchParams;
    asked.push({ referer: request.headers.referer, ...Object.fromEntries(given) });
    const back = new URLSearchParams({ token: tokenOf(answers.user), state: answers.state ?? given.get("state") });
    response.writeHead(302, { Location: `${given.get("return_to")}#${back}` }).end();
  });
  await new Promise((resolve) => login.listen(Number(new URL(process.env.LOGIN_URL).port), "127.0.0.1", resolve));
});
after(async () => {
  await browser.close();
  login.close();
});

test("the operator's page leads back to where the user was", async () => {
  const page = await browser.newPage();
  await page.goto(`${url}/ui/#/history`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "History" }).waitFor();
  assert.equal(page.url(), `${url}/ui/#/history`);
  assert.deepEqual(Object.keys(asked[0]), ["referer", "return_to", "state"]);
  assert.equal(asked[0].referer, undefined);
  assert.equal(asked[0].return_to, `${url}/ui/`);
  await page.getByRole("link", { name: "Tasks" }).click();
  await add(page, "Buy milk");
  await until(() => titles(page), ["Buy milk"]);
  await page.close();
});

test("the operator's page is told the address that it knows, however the page's was typed", async () => {
  for (const path of ["/ui", "/ui/?from=mail", "//ui//"]) {
    const page = await browser.newPage();
    await page.goto(`${url}${path}`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByLabel("New task").waitFor();
    assert.equal(asked.at(-1).return_to, `${url}/ui/`);
    await page.close();
  }
});

test("a link with doubled slashes signs in, too, and its token leaves the address", async () => {
  const page = await browser.newPage();
  await page.goto(`${url}//ui/#token=anything`);
  await page.getByText("That link didn't come from here, so it wasn't followed.").waitFor();
  assert.equal(page.url(), `${url}//ui/#/tasks`);
  await page.close();
});

test("a token with another state, or with none, is refused", async () => {
  const page = await browser.newPage();
  answers.state = "not-this-one";
  await page.goto(`${url}/ui/`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("That link didn't come from here, so it wasn't followed.").waitFor();
  await page.goto("about:blank");
  await page.goto(`${url}/ui/#token=${tokenOf("somebody-else")}`);
  await page.getByText("That link didn't come from here, so it wasn't followed.").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("daybook.token")), null);
  assert.equal(page.url(), `${url}/ui/#/tasks`);
  await page.close();
});

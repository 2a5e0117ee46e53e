// A browser, and the page in it as a user sees it. The service is the one that tests/test_page.py starts.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { chromium } from "playwright-core";

export const { DAYBOOK_URL: url, DAYBOOK_SECRET: secret, CHROMIUM: executablePath } = process.env;

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
export const launching = { executablePath, args: ARGUMENTS };

export const launch = () => chromium.launch(launching);

/** Sign a token for a user, as an issuer would. */
export function tokenOf(user, { key = secret, seconds = 3600 } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp })}`;
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

/** Send a request of the user's to the API, past the page. */
export async function api(user, method, path, body, headers = {}) {
  const answer = await fetch(`${url}/api/${user}${path}`, {
    method,
    headers: { Authorization: `Bearer ${tokenOf(user)}`, "Content-Type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? null : answer.json();
}

/** Open the page, signed in by a link, in a window of its own. At the test's end, nothing may have gone wrong in it. */
export async function open(t, browser, user, { route = "", token = tokenOf(user), context: options = {} } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await watched(t, context, token);
  await page.goto(`${url}/ui/#token=${token}`);
  if (route) await page.evaluate((hash) => void (location.hash = hash), route);
  return page;
}

/** Make a page of a context that is watched: for errors, violations of its policy, and a token that gets out. */
export async function watched(t, context, token) {
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const wrong = [];
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`violates ${event.violatedDirective}`));
  });
  page.on("pageerror", (error) => wrong.push(error.stack));
  page.on("dialog", (dialog) => wrong.push(`dialog: ${dialog.message()}`));
  page.on("console", (message) => {
    const loud = ["error", "warning"].includes(message.type());
    if (loud && !message.text().startsWith("Failed to load resource")) wrong.push(message.text());
  });
  page.on("request", (request) => {
    const { referer = "" } = request.headers();
    if (referer) wrong.push(`${request.url()} was told that the page is ${referer}`);
    if (request.url().split("#")[0].includes(token.slice(0, 40))) wrong.push(`the token is in ${request.url()}`);
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(new URL(url).origin)) {
      wrong.push(`another host: ${request.url()}`);
    }
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(wrong, []);
  });
  return page;
}

/** Wait until the value is as expected. */
export async function until(read, expected) {
  for (const end = Date.now() + 20_000; ; await new Promise((resolve) => setTimeout(resolve, 25))) {
    const found = await read();
    try {
      return assert.deepEqual(found, expected);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

export const titles = (page) => page.locator(".row .text").allTextContents();
export const sentences = (page) => page.locator(".timeline .sentence").allTextContents();
export const toast = (page, text) => page.locator(".toast", { hasText: text });

/** Add a task as a user does. */
export async function add(page, title) {
  await page.getByLabel("New task").fill(title);
  await page.getByRole("button", { name: "Add", exact: true }).click();
}

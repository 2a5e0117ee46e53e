// Somebody with a browser of their own, who uses the app.

import { setTimeout } from "node:timers/promises";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

let visitors = 0;

/** A person's windows share cookies and storage. */
export class Visitor {
  id = "";

  /**
   * @param {import("playwright-core").BrowserContext} context
   * @param {Set<string>} hosts - which the browser's requests went to
   */
  constructor(context, hosts, number = ++visitors) {
    this.context = context;
    this.name = `Visitor ${number}`;
    this.email = `visitor${number}@example.com`;
    context.setDefaultTimeout(30_000);
    context.on("request", (request) => hosts.add(new URL(request.url()).host));
  }

  /**
   * @param {import("playwright-core").Browser} browser
   * @param {string} baseURL
   * @param {Set<string>} hosts
   */
  static async arrive(browser, baseURL, hosts) {
    // an address of their own, since Better Auth limits how often one may sign in
    const number = ++visitors;
    const extraHTTPHeaders = { "X-Forwarded-For": `192.0.2.${number}` };
    return new Visitor(await browser.newContext({ baseURL, extraHTTPHeaders }), hosts, number);
  }

  /** Sign up in a new window. */
  async signUp() {
    const page = await this.context.newPage();
    await page.goto("/");
    await page.getByRole("button", { name: "I am new here" }).click();
    await page.getByLabel("Name").fill(this.name);
    await page.getByLabel("Email").fill(this.email);
    await page.getByLabel("Password").fill("a long password");
    await page.getByRole("button", { name: "Sign up" }).click();
    await page.getByRole("heading", { name: `Tasks of ${this.name}` }).waitFor();
    const { user } = await (await this.context.request.get("/api/auth/get-session")).json();
    this.id = user.id;
    return page;
  }

  /** Open one more window. */
  async open() {
    const page = await this.context.newPage();
    await page.goto("/");
    await page.getByRole("heading", { name: `Tasks of ${this.name}` }).waitFor();
    return page;
  }

  /**
   * Send a request as the pages do.
   *
   * @param {string} path - below that of the user
   * @param {Parameters<import("playwright-core").APIRequestContext["fetch"]>[1]} [options]
   */
  fetch(path, options) {
    return this.context.request.fetch(`/daybook/api/${this.id}${path}`, options);
  }

  /** Return the types of this user's events, from the audit log, oldest first. */
  async events() {
    /** @type {{ type: string }[]} */
    const events = await (await this.fetch("/audit?order=asc&limit=1000")).json();
    return events.map(({ type }) => type);
  }

  /**
   * Wait until so many events are in the log. A change waits to be sent only from a moment after the click.
   *
   * @param {number} count
   */
  async made(count) {
    while ((await this.events()).length < count) await setTimeout(50);
  }

  /**
   * Wait until nothing waits to be sent. Of discarded changes, something stays for the other windows.
   *
   * @param {import("playwright-core").Page} page
   */
  async sent(page) {
    await page.waitForFunction((name) => {
      /** @type {{ op: string }[]} */
      const kept = JSON.parse(localStorage.getItem(name) ?? "[]");
      return kept.every(({ op }) => op === "discarded");
    }, `daybook:${this.id}`);
  }
}

/**
 * The row of a task.
 *
 * @param {import("playwright-core").Page} page
 * @param {string} title
 */
export function row(page, title) {
  return page.getByRole("list", { name: "Tasks" }).getByRole("listitem").filter({ hasText: title });
}

/**
 * @param {import("playwright-core").Page} page
 * @param {string} title
 */
export async function add(page, title) {
  await page.getByLabel("New task").fill(title);
  await page.getByRole("button", { name: "Add" }).click();
  await row(page, title).waitFor();
}

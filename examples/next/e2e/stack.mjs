// Daybook and the app as processes, on the databases DATABASE_URL and AUTH_DATABASE_URL.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import pg from "pg";

const APP = fileURLToPath(new URL("..", import.meta.url));
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const { PYTHON = ".venv/bin/python", DATABASE_URL, AUTH_DATABASE_URL } = process.env;

/** Start both. The addresses that they are given end with a slash, as people write them. */
export async function startStack() {
  const [port, daybookPort] = [await freePort(), await freePort()];
  const url = `http://localhost:${port}`;
  const daybookUrl = `http://127.0.0.1:${daybookPort}`;
  const users = new pg.Client({ connectionString: AUTH_DATABASE_URL });
  await users.connect();

  const serve = () =>
    start(PYTHON, ["-m", "cli", "serve", "--port", String(daybookPort)], ROOT, `${daybookUrl}/readyz`, {
      DATABASE_URL,
      BETTER_AUTH_URL: `${url}/`,
      LOG_LEVEL: "WARNING",
    });
  // kept connections outlive the test: a busy server would close one in the moment in which a request arrives on it
  const next = ["node_modules/next/dist/bin/next", "start", "--keepAliveTimeout", "240000"];
  const address = ["--hostname", "localhost", "--port", String(port)];
  const started = await Promise.allSettled([
    start("node", [...next, ...address], APP, `${url}/sign-in`, {
      BETTER_AUTH_URL: `${url}/`,
      BETTER_AUTH_SECRET: "a secret for tests, of 32 bytes or more",
      DATABASE_URL: AUTH_DATABASE_URL,
      DAYBOOK_URL: `${daybookUrl}/`,
      NEXT_TELEMETRY_DISABLED: "1",
    }),
    serve(),
  ]);
  const [app, first] = started.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  if (!app || !first) {
    await Promise.all([users.end(), app?.stop()]); // nothing must go on running without the other
    throw started.find((each) => each.status === "rejected")?.reason;
  }
  let daybook = first;
  return {
    url,
    /** The database of Better Auth. */
    users,
    stopDaybook: () => daybook.stop(),
    startDaybook: async () => {
      daybook = await serve();
    },
    stop: () => Promise.all([users.end(), app.stop(), daybook.stop()]),
  };
}

/**
 * Start a process, and wait until it answers.
 *
 * @param {string} command
 * @param {string[]} options
 * @param {string} cwd
 * @param {string} address
 * @param {Record<string, string | undefined>} variables
 */
async function start(command, options, cwd, address, variables) {
  const stdio = /** @type {const} */ (["ignore", "ignore", "inherit"]);
  const running = spawn(command, options, { cwd, env: { ...process.env, ...variables }, stdio: [...stdio] });
  const ended = once(running, "exit");
  const stop = async () => {
    running.kill("SIGTERM");
    await ended;
  };
  for (;;) {
    const answer = await fetch(address).catch(() => undefined);
    if (answer?.ok) return { stop };
    if (running.exitCode !== null) throw new Error(`${command} ended before it was ready.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function freePort() {
  const probe = createServer().listen(0, "localhost");
  await once(probe, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (probe.address());
  probe.close();
  return port;
}

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createServer } from "node:net";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the service listens. */
    url: string;
    /** The file with damaged exports, and what the service's own verifier says of them. */
    cases: string;
  }
}

const ROOT = new URL("../../..", import.meta.url);
const PYTHON = process.env.PYTHON ?? ".venv/bin/python";
export const SECRET = "a secret for tests, of 32 bytes or more";

/** Start the service, on an embedded Postgres unless DATABASE_URL is set. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), "daybook-client-"));
  const cases = join(folder, "cases.json");
  const port = await freePort();
  const env = { ...process.env, JWT_SECRET: SECRET, DAYBOOK_DATA_DIR: join(folder, "data"), FEEDS_PER_USER: "20" };
  const service = spawn(PYTHON, ["-m", "cli", "serve", "--port", String(port)], { cwd: ROOT, env, stdio: "ignore" });
  const stop = async () => {
    const ended = new Promise((resolve) => service.once("exit", resolve));
    if (service.kill("SIGTERM")) await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const url = `http://127.0.0.1:${port}`;
    writeFileSync(cases, execFileSync(PYTHON, ["-m", "tests.export_cases"], { cwd: ROOT, maxBuffer: 1 << 28 }));
    await untilReady(url, service);
    provide("url", url);
    provide("cases", cases);
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}

async function untilReady(url: string, service: ChildProcess): Promise<void> {
  while (service.exitCode === null) {
    const ready = await fetch(`${url}/readyz`).catch(() => undefined);
    if (ready?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("The service ended before it was ready.");
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}

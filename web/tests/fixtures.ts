import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Head, Task } from "daybook-client";
import type { TestProject } from "vitest/node";
import type { Foldable } from "../src/log/evolve";

/** What the service's own code makes of some logs (tests/page_fixtures.py). */
export interface Fixtures {
  user: string;
  /** Events of a log, and after each its task: null if it is gone, or "impossible" if the event can't follow. */
  folds: { events: Foldable[]; tasks: (Task | null | "impossible")[] }[];
  /** Exports, a head that was kept, and the number of the event that doesn't fit; null if all do. */
  chains: { log: string; head: Head; seq: number | null }[];
  /** Payloads of tokens, and the user that the service finds by a claim; null if there is none. */
  users: { payload: string; claim: string; user: string | null }[];
}

declare module "vitest" {
  export interface ProvidedContext {
    fixtures: Fixtures;
  }
}

/** Have the service's own code make the fixtures. */
export default function setup({ provide }: TestProject): void {
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const python = process.env.PYTHON ?? ".venv/bin/python";
  const made = execFileSync(python, ["-m", "tests.page_fixtures"], { cwd, maxBuffer: 1 << 28, encoding: "utf8" });
  provide("fixtures", JSON.parse(made) as Fixtures);
}

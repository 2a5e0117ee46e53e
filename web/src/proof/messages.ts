import type { Head, Report } from "daybook-client";

/** What the page sends to the worker: an export, and the head that it must lead to. */
export interface Order {
  log: Uint8Array<ArrayBuffer>;
  head: Head | undefined;
}

/** What the worker answers: how many events fit so far, at last the report, or why there is none. */
export type Answer = { events: number } | { report: Report } | { cannot: string };

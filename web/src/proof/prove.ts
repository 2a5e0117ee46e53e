import type { Head, Report } from "daybook-client";
import type { Answer, Order } from "./messages";
import workerUrl from "./worker?worker&url";

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

/** The page's one policy of Trusted Types: the only script that may be started is the worker. */
const policy = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes?.createPolicy("daybook", {
  createScriptURL: () => workerUrl,
});

/** Recompute the hash chain of an export in a worker, and compare it with a head. `progress` gets how many events fit
 * so far. Throws if the export can't be judged. */
export function prove(
  log: Uint8Array<ArrayBuffer>,
  head: Head | undefined,
  progress: (events: number) => void,
  signal: AbortSignal,
): Promise<Report> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(policy?.createScriptURL(workerUrl) ?? workerUrl, { type: "module" });
    const end = (settle: () => void) => {
      worker.terminate();
      settle();
    };
    signal.addEventListener("abort", () => end(() => reject(signal.reason)), { once: true });
    worker.addEventListener("error", ({ message }) =>
      end(() => reject(new Error(message || "The check couldn't start."))),
    );
    worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
      if ("events" in data) progress(data.events);
      else if ("report" in data) end(() => resolve(data.report));
      else end(() => reject(new Error(data.cannot)));
    });
    const order: Order = { log, head };
    worker.postMessage(order, [log.buffer]);
  });
}

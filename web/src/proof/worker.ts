import { verify } from "daybook-client";
import type { Answer, Order } from "./messages";

const STEP = 250;
/** Events after which the page is told: more often would take longer than the work. */

const answer = (message: Answer) => postMessage(message);

addEventListener("message", ({ data: { log, head } }: MessageEvent<Order>) => {
  const onEvent = (events: number) => {
    if (events % STEP === 0) answer({ events });
  };
  verify(log, { head, onEvent }).then(
    (report) => answer({ report }),
    (error: unknown) => answer({ cannot: error instanceof Error ? error.message : String(error) }),
  );
});

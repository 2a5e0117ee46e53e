import { useSyncExternalStore } from "react";
import { explain } from "@/lib/explain";
import { useTasks } from "./tasks-provider";

/** Say that writes wait to be sent, and why, and let the first of them be given up: it may hold up all others for ever. */
export function WaitingWrites() {
  const { queue } = useTasks().tasks;
  const waiting = useSyncExternalStore(queue.subscribe, queue.status, () => null);
  if (!waiting) return null;
  return (
    <p role="status">
      Your last changes wait to be sent. {explain(waiting.error)}{" "}
      <button type="button" onClick={() => queue.discard(waiting.operation.key)}>
        Discard the first of them
      </button>
    </p>
  );
}

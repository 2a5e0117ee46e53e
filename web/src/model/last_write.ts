import { type Daybook, DaybookError, isProblem, type Task } from "daybook-client";
import { type Anatomy, anatomyOf, type FullEvent } from "../log/anatomy";
import { exportedLines } from "../log/download";
import { evolve } from "../log/evolve";

/** The user's last write, with all that it was made from and led to. */
export interface LastWrite {
  event: FullEvent;
  /** The hash of the event before; empty if there is none. */
  previous: string;
  anatomy: Anatomy;
  before: Task | null;
  after: Task | null;
}

/** Read the user's last event, and carry its write out once more, here. Null if there is none. */
export async function readLastWrite(daybook: Daybook, signal: AbortSignal): Promise<LastWrite | null> {
  const { seq } = await daybook.getHead({ signal });
  if (!seq) return null;
  const events: FullEvent[] = [];
  const query = { format: "ndjson", order: "asc", after: Math.max(0, seq - 2), before: seq + 1 } as const;
  for await (const lines of exportedLines(daybook, query, signal)) {
    for (const line of lines) events.push(JSON.parse(line) as FullEvent);
  }
  const event = events.at(-1)!;
  const previous = events.at(-2)?.hash ?? "";
  const before = await taskBefore(daybook, event, signal);
  const createdAt = before?.created_at ?? event.data?.restored?.created_at ?? event.at;
  const after = evolve(before, event, { userId: event.user_id, createdAt });
  return { event, previous, anatomy: await anatomyOf(event, previous), before, after };
}

/** Read the task as it was before an event; null if there was none, or it was erased. */
async function taskBefore(
  daybook: Daybook,
  { task_id, version }: FullEvent,
  signal: AbortSignal,
): Promise<Task | null> {
  if (version === 1) return null;
  try {
    return await daybook.getTask(task_id, { version: version - 1 }, { signal });
  } catch (error) {
    if (error instanceof DaybookError && error.status === 404) return null; // it was deleted then
    if (isProblem(error, "/problems/erased")) return null;
    throw error;
  }
}

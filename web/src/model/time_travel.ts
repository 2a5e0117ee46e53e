import { computed, signal } from "@preact/signals";
import type { AuditEvent, Daybook } from "daybook-client";
import { exportedLines } from "../log/download";
import { type Step, Timeline } from "../log/timeline";
import { messageOf } from "./store";

export type TimeTravel = ReturnType<typeof createTimeTravel>;

/** Make the slider's state: the log, read and folded once, and the moment that is shown. `begin` is the moment to begin
 * with; without it, now. */
export function createTimeTravel(daybook: Daybook, begin: number | null) {
  const timeline = new Timeline(daybook.userId);
  const read = signal(0);
  const whole = signal(false);
  const failure = signal("");
  const at = signal(begin ?? Infinity);
  const meanwhile: AuditEvent[] = [];
  const shown = computed(() => {
    const count = Math.min(at.value, read.value);
    timeline.goTo(count);
    return { count, tasks: timeline.tasks(), step: timeline.steps[count - 1] };
  });

  /** Read the whole log. */
  async function load(signal: AbortSignal): Promise<void> {
    try {
      for await (const lines of exportedLines(daybook, { format: "ndjson", order: "asc" }, signal)) {
        for (const line of lines) timeline.add(JSON.parse(line) as Step);
        read.value = timeline.steps.length;
      }
      whole.value = true;
      for (const event of meanwhile.splice(0)) receive(event);
    } catch (error) {
      if (!signal.aborted) failure.value = messageOf(error);
    }
  }

  /** Put an event that has just happened; while the log is being read, once that has come to its end. Whoever looks at
   * now goes with it. */
  function receive(event: AuditEvent): void {
    if (!whole.peek()) meanwhile.push(event);
    if (!whole.peek() || event.seq !== timeline.steps.length + 1) return;
    timeline.add(event);
    read.value = timeline.steps.length;
  }

  /** Go to the moment after so many events. After the last one it is now, and stays so. */
  function goTo(count: number): void {
    at.value = count >= read.value ? Infinity : Math.max(0, count);
  }

  /** Return the time of the moment that is shown, for the service; one before all events if none has happened. */
  function moment(): string {
    const { step } = shown.peek();
    if (step) return step.at;
    return new Date(Date.parse(timeline.steps[0]!.at) - 1000).toISOString();
  }

  return { timeline, read, whole, failure, at, shown, load, receive, goTo, moment };
}

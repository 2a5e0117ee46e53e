import { signal } from "@preact/signals";
import type { AuditEvent, Daybook } from "daybook-client";
import { withoutContent } from "../log/erasure";
import { messageOf } from "./store";

/** Which events are shown. Days are the browser's, from the first to the last one, both with. */
export interface EventFilter {
  type: string;
  since: string;
  until: string;
}

export const EVENT_TYPES: [AuditEvent["type"], string][] = [
  ["TaskCreated", "added"],
  ["TaskUpdated", "changed"],
  ["TaskToggled", "completed or opened"],
  ["TaskDeleted", "deleted"],
  ["TaskRestored", "brought back"],
  ["TaskErased", "erased for good"],
  ["UserErased", "all erased for good"],
];

/** Read a filter from the address; unknown values count as none. */
export function eventFilterOf(query: URLSearchParams): EventFilter {
  const day = (name: string) => /^\d{4}-\d\d-\d\d$/.exec(query.get(name) ?? "")?.[0] ?? "";
  const type = EVENT_TYPES.find(([each]) => each === query.get("type"))?.[0] ?? "";
  return { type, since: day("since"), until: day("until") };
}

/** Return the parameters with which the service selects these events. */
export function parametersOf({ type, since, until }: EventFilter) {
  return {
    ...(type && { type: [type as AuditEvent["type"]] }),
    ...(since && { since: startOf(since, 0) }),
    ...(until && { until: startOf(until, 1) }),
  };
}

function startOf(day: string, later: number): string {
  const [year, month, date] = day.split("-").map(Number) as [number, number, number];
  return new Date(year, month - 1, date + later).toISOString();
}

/** Say if a new event belongs among those that are shown. */
export function belongs(event: AuditEvent, filter: EventFilter): boolean {
  const { since, until } = parametersOf(filter);
  return (!filter.type || event.type === filter.type) && (!since || event.at >= since) && (!until || event.at < until);
}

export type EventList = ReturnType<typeof createEventList>;

/** Make a list of events, newest first, that is read page by page, and grows at its beginning as events happen. */
export function createEventList(daybook: Daybook, filter: EventFilter, pageSize: number) {
  const events = signal<readonly AuditEvent[]>([]);
  const state = signal<"reading" | "more" | "whole" | "failed">("more");
  const failure = signal("");
  const erased = new Set<string>();
  let next: string | undefined;

  /** Show events, without the content of tasks that were erased meanwhile. */
  function show(all: readonly AuditEvent[]): void {
    events.value = all.map((each) => (erased.has(each.task_id) ? withoutContent(each) : each));
  }

  async function more(signal?: AbortSignal): Promise<void> {
    if (state.value === "reading" || state.value === "whole") return;
    state.value = "reading";
    try {
      const page = await daybook.listEvents({ ...parametersOf(filter), limit: pageSize }, { page: next, signal });
      const newest = page.items[0]?.seq ?? 0;
      const before = next === undefined ? events.value.filter(({ seq }) => seq > newest) : events.value;
      show([...before, ...page.items]);
      next = page.next;
      state.value = next === undefined ? "whole" : "more";
    } catch (error) {
      if (signal?.aborted) return;
      [failure.value, state.value] = [messageOf(error), "failed"];
    }
  }

  /** Put an event that has just happened, if it isn't there yet. */
  function receive(event: AuditEvent): void {
    const isNew = belongs(event, filter) && event.seq > (events.value[0]?.seq ?? 0);
    if (event.type === "TaskErased") erased.add(event.task_id);
    if (isNew || event.type === "TaskErased") show(isNew ? [event, ...events.value] : events.value);
  }

  return { events, state, failure, more, receive };
}

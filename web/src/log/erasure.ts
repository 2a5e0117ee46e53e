import type { AuditEvent } from "daybook-client";

/** Say if an event's content was erased, or it erased some itself: there is nothing of it to undo or to go back to. */
export function isErased({ type, erased }: Pick<AuditEvent, "type" | "erased">): boolean {
  return erased === true || type === "TaskErased" || type === "UserErased";
}

/** Name the task of an erasure, or of an event whose content was erased. */
export function nameWithout({ type }: Pick<AuditEvent, "type">): string {
  return type === "TaskErased" ? "a task" : "an erased task";
}

/** Take the content out of an event, as its task's erasure does. Erasures stay as they are. */
export function withoutContent(event: AuditEvent): AuditEvent {
  if (isErased(event)) return event;
  return { ...event, request_id: null, client: { address: null, agent: null }, changes: {}, erased: true };
}

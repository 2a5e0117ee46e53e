import { DaybookError, isProblem } from "daybook-client";
import type { Operation } from "daybook-client/tanstack";

/** Tell the person at the screen why something failed, and what to do. */
export function explain(error: unknown, operation?: Operation): string {
  if (operation && isProblem(error, "/problems/precondition-failed")) {
    const wish = operation.op === "update" && operation.changes.title;
    return `This task was changed elsewhere, so your change${wish ? ` to “${wish}”` : ""} wasn't made. The list shows the task as it is now: change it again if you still want to.`;
  }
  if (error instanceof DaybookError) return error.message;
  return "The tasks can't be reached just now. Please try again.";
}

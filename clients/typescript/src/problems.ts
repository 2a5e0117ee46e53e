import type { components } from "./schema.js";

type ProblemDetails = components["schemas"]["ProblemDetails"];
type FieldError = components["schemas"]["FieldError"];

/** Every type of problem of the service, and its status (docs/guides/errors.md). */
export interface ProblemStatus {
  "/problems/bad-request": 400;
  "/problems/not-authenticated": 401;
  "/problems/not-yours": 403;
  "/problems/read-only": 403;
  "/problems/task-not-found": 404;
  "/problems/event-not-found": 404;
  "/problems/not-found": 404;
  "/problems/method-not-allowed": 405;
  "/problems/request-timeout": 408;
  "/problems/task-exists": 409;
  "/problems/changed-since": 409;
  "/problems/operation-refused": 409;
  "/problems/not-deleted": 409;
  "/problems/erased": 410;
  "/problems/log-replaced": 410;
  "/problems/precondition-failed": 412;
  "/problems/body-too-large": 413;
  "/problems/not-json": 415;
  "/problems/invalid": 422;
  "/problems/idempotency-key-reused": 422;
  "/problems/rate-limited": 429;
  "/problems/too-many-streams": 429;
  "/problems/head-too-large": 431;
  "/problems/internal-server-error": 500;
  "/problems/overloaded": 503;
  "/problems/unavailable": 503;
}

export type ProblemType = keyof ProblemStatus;

type Typed<T extends ProblemType> = Omit<ProblemDetails, "type" | "status"> & { type: T; status: ProblemStatus[T] };

/** An error answer that isn't the service's own, such as a proxy's web page. */
export interface OtherProblem {
  type: "about:blank";
  title: string;
  status: number;
  detail: string;
  hint?: string;
  request_id?: string;
  errors?: FieldError[];
}

/** A problem (RFC 9457). `type` tells which: `switch (problem.type)` narrows it. */
export type DaybookProblem = { [T in ProblemType]: Typed<T> }[ProblemType] | OtherProblem;

/** An error answer. `message` is a sentence for the person at the screen, `problem.hint` one for the developer. */
export class DaybookError extends Error {
  override readonly name = "DaybookError";

  constructor(
    readonly problem: DaybookProblem,
    readonly headers: Headers,
  ) {
    super(problem.detail);
  }

  get status(): number {
    return this.problem.status;
  }

  /** What `Retry-After` says, in milliseconds. */
  get retryAfter(): number | undefined {
    return retryAfter(this.headers);
  }
}

/** Say if the error is a problem of this type. */
export function isProblem<T extends ProblemType>(
  error: unknown,
  type: T,
): error is DaybookError & { problem: Extract<DaybookProblem, { type: T }> } {
  return error instanceof DaybookError && error.problem.type === type;
}

/** Make the error of an answer from its parsed body. */
export function problemOf(response: Response, body: unknown): DaybookError {
  const isDaybooks = typeof body === "object" && body !== null && "type" in body && "detail" in body;
  const { status, statusText, headers } = response;
  const detail = `The tasks can't be reached (${status}).`;
  const other: OtherProblem = { type: "about:blank", title: statusText, status, detail };
  return new DaybookError(isDaybooks ? (body as DaybookProblem) : other, headers);
}

/** Read `Retry-After` in milliseconds. Daybook gives seconds; a proxy may give a date. */
export function retryAfter(headers: Headers): number | undefined {
  const text = headers.get("Retry-After");
  if (!text) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

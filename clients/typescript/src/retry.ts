import { DaybookError, retryAfter } from "./problems.js";

export interface RetryOptions {
  /** Largest number of times that a request is sent. */
  attempts?: number | undefined;
  /** Milliseconds after which nothing is tried again. */
  within?: number | undefined;
  /** Milliseconds of the first wait after a network error, about; each further one is twice as long. */
  pause?: number | undefined;
}

/** Send a request until it is answered, waiting as `Retry-After` says. Tries again after a network error, or 503 with
 * `Retry-After`; nothing else. A write without an `Idempotency-Key` isn't tried again after a network error. */
export async function withRetries(
  request: Request,
  send: () => Promise<Response>,
  { attempts = 6, within = 60_000, pause = 500 }: RetryOptions = {},
): Promise<Response> {
  const end = Date.now() + within;
  const repeatable = request.method === "GET" || request.method === "HEAD" || request.headers.has("Idempotency-Key");
  for (let attempt = 1; ; attempt++) {
    let answer: Response | undefined;
    let failure: unknown;
    let wait: number | undefined;
    try {
      answer = await send();
      if (answer.status === 503) wait = retryAfter(answer.headers);
    } catch (error) {
      failure = error;
      if (repeatable && isNetworkError(error) && !request.signal.aborted) wait = backoff(attempt, pause);
    }
    if (wait === undefined || attempt >= attempts || Date.now() + wait > end) {
      if (answer) return answer;
      throw failure;
    }
    await answer?.body?.cancel();
    await sleep(wait, request.signal);
  }
}

/** Make the error of an answer that takes too long. */
export function late(): DOMException {
  return new DOMException("Nothing came in time.", "TimeoutError");
}

/** Say if the network failed, or an answer took too long: nobody knows if the request arrived. */
export function isNetworkError(error: unknown): boolean {
  return error instanceof TypeError || (error instanceof DOMException && error.name === "TimeoutError");
}

/** Say if the same request may succeed later, without a change to it. */
export function isTransient(error: unknown): boolean {
  return isNetworkError(error) || (error instanceof DaybookError && [408, 429, 502, 503, 504].includes(error.status));
}

/** Say if Daybook itself has refused a request for good. Anything else is no reason to lose what the user did: a page of
 * a proxy or a captive portal, an error of the service, a token that has ended, a limit of requests. */
export function isRefusal(error: unknown): error is DaybookError {
  return (
    error instanceof DaybookError &&
    /^\/problems\//.test(error.problem.type) &&
    error.status >= 400 &&
    error.status < 500 &&
    ![401, 408, 425, 429].includes(error.status)
  );
}

/** Return how long to wait after so many failures in a row: twice as long each time, between half of it and all. */
export function backoff(failures: number, first: number, most = 30_000): number {
  return Math.min(most, first * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
}

/** Wait. Throw the signal's reason if it is aborted. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

import "server-only";
import { getCaller } from "./caller";
import { appUrl, daybookUrl } from "./env";

const PASSED_ON = ["Accept", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID"];
const PASSED_BACK = [
  "Allow",
  "Content-Disposition",
  "Content-Type",
  "Daybook-Seq",
  "ETag",
  "Idempotency-Replayed",
  "Link",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
  "X-Accel-Buffering",
  "X-Request-ID",
];

/** Send a request on to Daybook with a token of the signed-in user, and the answer back as it comes. */
export async function proxy(request: Request, userId: string, path: string[]): Promise<Response> {
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (!isRead && request.headers.get("Origin") !== new URL(appUrl).origin) {
    return problem(403, "Another site has sent this request.");
  }
  const caller = await getCaller(request.headers);
  if (!caller) return problem(401, "Please sign in.");
  if (userId !== caller.userId) return problem(403, "Somebody else is signed in here.");
  if (!path.every((segment) => /^[\w-]+$/.test(segment))) return problem(404, "There is nothing here.");

  const url = `${daybookUrl}/api/${encodeURIComponent(caller.userId)}/${path.join("/")}${new URL(request.url).search}`;
  const headers = picked(request.headers, PASSED_ON);
  headers.set("Authorization", `Bearer ${caller.token}`);
  const { method, body, signal } = request;
  const init = { method, headers, body, signal, duplex: "half", cache: "no-store", redirect: "manual" } as const;
  const answer = await fetch(url, init).catch((error: unknown) => error);
  if (!(answer instanceof Response)) {
    if (!signal.aborted) console.error(`Daybook can't be reached: ${(answer as Error).cause ?? answer}`);
    return problem(503, "The tasks can't be reached just now. If this was a change, it may have been made.");
  }
  const { status } = answer;
  return new Response(answer.body, { status, headers: uncached(picked(answer.headers, PASSED_BACK)) });
}

/** Make a problem of this app's own. `about:blank` tells the client that Daybook hasn't refused: what waits is kept. */
function problem(status: number, detail: string): Response {
  const headers = uncached(new Headers({ "Content-Type": "application/problem+json" }));
  if (status === 503) headers.set("Retry-After", "1");
  return new Response(JSON.stringify({ type: "about:blank", title: detail, status, detail }), { status, headers });
}

function picked(headers: Headers, names: string[]): Headers {
  const found = names.flatMap((name) => {
    const value = headers.get(name);
    return value === null ? [] : [[name, value] as [string, string]];
  });
  return new Headers(found);
}

/** Keep answers out of the browser's cache, where they would outlive the session, and from being buffered to be packed. */
function uncached(headers: Headers): Headers {
  headers.set("Cache-Control", "no-store, no-transform");
  return headers;
}

import { late, type RetryOptions, withRetries } from "./retry.js";
import type { TokenCache } from "./token.js";

export interface SendOptions extends RetryOptions {
  /** Milliseconds after which an attempt without an answer counts as a network error. */
  timeout?: number | undefined;
  fetch?: typeof fetch | undefined;
}

/** Make the function that all requests go through: it adds the token, replaces it once if it is refused, and retries.
 * An answer is read to its end, so that one that is cut off is tried again too, unless it is to be a `stream`. */
export function sender(tokens: TokenCache, options: SendOptions, { stream = false } = {}) {
  return (request: Request): Promise<Response> => {
    let replaced = false;
    const send = async () => {
      const token = await tokens.get();
      const answer = await attempt(request, token, options, stream);
      if (answer.status !== 401 || replaced) return answer;
      replaced = true;
      const another = await tokens.replace(token);
      return another === token ? answer : attempt(request, another, options, stream);
    };
    return withRetries(request, send, options);
  };
}

async function attempt(request: Request, token: string, options: SendOptions, stream: boolean): Promise<Response> {
  const { fetch = globalThis.fetch, timeout = 30_000 } = options;
  const ended = new AbortController();
  const timer = setTimeout(() => ended.abort(late()), timeout);
  const copy = request.clone();
  copy.headers.set("Authorization", `Bearer ${token}`);
  try {
    const answer = await fetch(copy, { signal: AbortSignal.any([request.signal, ended.signal]) });
    if (stream) return answer;
    const body = await answer.arrayBuffer();
    return new Response(body.byteLength ? body : null, answer);
  } finally {
    clearTimeout(timer);
  }
}

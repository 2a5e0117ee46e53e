import { createParser } from "eventsource-parser";
import type { AuditEvent, Daybook, Task } from "./client.js";
import { answered } from "./client.js";
import { DaybookError } from "./problems.js";
import { backoff, isTransient, late, sleep } from "./retry.js";

/** An event with the task as it left it; null if it is deleted. */
export type StreamedEvent = AuditEvent & { task: Task | null };

export interface StreamOptions {
  /** Begin after the event with this number; 0 gives the whole log. Without it, begin with the next one. */
  after?: number | undefined;
  /** Ends the stream, without an error. */
  signal?: AbortSignal | undefined;
  /** Milliseconds of silence after which the connection counts as dead. Daybook sends something every 15 seconds. */
  silence?: number | undefined;
  /** Milliseconds before it connects again, about, until the service says how many. */
  pause?: number | undefined;
}

/** Yield the user's events as they happen: each once, in the order of `seq`, without a gap, however often the
 * connection ends. Throws if it can't go on: 410 if the log was replaced by a backup, 401 if there is no good token. */
export async function* stream(daybook: Daybook, options: StreamOptions = {}): AsyncGenerator<StreamedEvent, void> {
  const { signal, silence = 30_000 } = options;
  let last = options.after;
  let { pause = 2000 } = options;
  let failures = 0;
  while (!signal?.aborted) {
    let wait: number | undefined;
    try {
      last ??= (await daybook.getHead({ signal })).seq; // else a cut before the first event would lose some
      for await (const message of messages(daybook, last, silence, signal)) {
        failures = 0;
        if (message.retry !== undefined) pause = message.retry;
        if (!message.event || message.event.seq <= last) continue;
        last = message.event.seq;
        yield message.event;
      }
      failures = 1;
    } catch (error) {
      if (signal?.aborted) return;
      if (!isTransient(error)) throw error;
      failures += 1;
      if (error instanceof DaybookError) wait = error.retryAfter;
    }
    await sleep(wait ?? backoff(failures, pause), signal).catch(() => {});
  }
}

type Message = { event?: StreamedEvent; retry?: number };

/** Yield what one connection brings. It is closed if the reader stops, and if nothing comes for too long. */
async function* messages(
  daybook: Daybook,
  last: number,
  silence: number,
  signal?: AbortSignal,
): AsyncGenerator<Message> {
  const dead = new AbortController();
  const end = () => dead.abort(late());
  let timer = setTimeout(end, silence);
  const read: Message[] = [];
  const parser = createParser({
    onEvent: ({ id, data }) => id && read.push({ event: JSON.parse(data) as StreamedEvent }),
    onRetry: (retry) => read.push({ retry }),
  });
  const until = signal ? AbortSignal.any([signal, dead.signal]) : dead.signal;
  const call = daybook.api.GET("/api/{user_id}/audit/stream", {
    params: { path: { user_id: daybook.userId } },
    headers: { Accept: "text/event-stream", "Last-Event-ID": String(last) },
    signal: until,
    fetch: daybook.open,
    parseAs: "stream",
  });
  try {
    const { data } = await answered(call);
    const bytes = data as ReadableStream<BufferSource>;
    const text = bytes.pipeThrough(new TextDecoderStream(), { signal: until }).getReader();
    for (let piece = await text.read(); !piece.done; piece = await text.read()) {
      clearTimeout(timer);
      timer = setTimeout(end, silence);
      parser.feed(piece.value);
      yield* read.splice(0);
    }
  } finally {
    clearTimeout(timer);
    dead.abort();
  }
}

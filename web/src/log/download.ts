import { type Daybook, problemOf } from "daybook-client";

type Query = { format: "ndjson" | "csv"; order?: "asc" | "desc"; [name: string]: unknown };

/** Read an export as it comes. Yields its bytes in pieces. Throws a `DaybookError` if it is refused. */
export async function* exported(daybook: Daybook, query: Query, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const { data, error, response } = await daybook.api.GET("/api/{user_id}/audit", {
    params: { path: { user_id: daybook.userId }, query },
    fetch: daybook.open,
    parseAs: "stream",
    signal: signal ?? null,
  });
  if (!response.ok) throw problemOf(response, error);
  const reader = (data as ReadableStream<Uint8Array>).getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
  } finally {
    await reader.cancel();
  }
}

/** Read an export line by line. */
export async function* exportedLines(daybook: Daybook, query: Query, signal?: AbortSignal): AsyncGenerator<string[]> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of exported(daybook, query, signal)) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield lines;
  }
}

/** Read a whole export. `progress` is called with how many lines have come. */
export async function download(
  daybook: Daybook,
  query: Query,
  { progress, signal }: { progress?: (lines: number) => void; signal?: AbortSignal } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let [size, lines] = [0, 0];
  for await (const piece of exported(daybook, query, signal)) {
    pieces.push(piece);
    size += piece.length;
    for (let at = piece.indexOf(10); at !== -1; at = piece.indexOf(10, at + 1)) lines++;
    progress?.(lines);
  }
  const whole = new Uint8Array(size);
  let place = 0;
  for (const piece of pieces) {
    whole.set(piece, place);
    place += piece.length;
  }
  return whole;
}

/** Have the browser save a file. */
export function save(name: string, content: BlobPart, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser reads it after the click
}

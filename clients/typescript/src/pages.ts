/** A page of a list. `next` leads to the page after it; there is none after the last. */
export interface Page<T> {
  items: T[];
  next: string | undefined;
  etag: string | null;
}

type List<T, Q> = (
  query?: Q,
  options?: { page?: string | undefined; signal?: AbortSignal | undefined },
) => Promise<Page<T>>;

/** Read a list page by page: `for await (const tasks of pages(daybook.listTasks, { status: "pending" }))`. */
export async function* pages<T, Q>(
  list: List<T, Q>,
  query?: Q,
  options: { signal?: AbortSignal | undefined } = {},
): AsyncGenerator<T[], void> {
  let page = await list(query, options);
  yield page.items;
  while (page.next !== undefined) {
    page = await list(query, { ...options, page: page.next });
    yield page.items;
  }
}

/** Read all pages of a list. */
export async function all<T, Q>(
  list: List<T, Q>,
  query?: Q,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<T[]> {
  const items: T[] = [];
  for await (const page of pages(list, query, options)) items.push(...page);
  return items;
}

/** Return the query of the next page's URL, from `Link` (RFC 8288). Its path may be another behind a proxy. */
export function nextPage(headers: Headers): string | undefined {
  return /<[^>?]*\?([^>]*)>\s*;\s*rel="?next"?/.exec(headers.get("Link") ?? "")?.[1];
}

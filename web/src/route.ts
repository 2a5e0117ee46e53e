import { signal } from "@preact/signals";

export const VIEWS = ["tasks", "history", "time", "task", "proof", "learn"] as const;

/** A place in the page. It stands in the fragment, which no request has: `#/task/ID`, `#/history?view=table`. */
export interface Route {
  view: (typeof VIEWS)[number];
  id: string;
  query: URLSearchParams;
}

/** Read a fragment; one that is unknown leads to the tasks. */
export function parseRoute(fragment: string): Route {
  const [, name = "", id = "", query = ""] = /^#\/(\w+)(?:\/([\w-]+))?(?:\?(.*))?$/.exec(fragment) ?? [];
  const view = VIEWS.find((each) => each === name) ?? "tasks";
  return { view, id, query: new URLSearchParams(query) };
}

/** Write a route as a fragment. Parameters that are empty are left out. */
export function hrefOf(view: Route["view"], id = "", query: Record<string, string> = {}): string {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${view}${id && `/${id}`}${given.size ? `?${given}` : ""}`;
}

/** Where the page is. */
export const route = signal(parseRoute(""));

/** Follow the address from now on. */
export function followAddress(): void {
  const read = () => (route.value = parseRoute(location.hash));
  addEventListener("hashchange", read);
  read();
}

/** Change the parameters of the address, without a new entry in the tab's history. */
export function setQuery(query: Record<string, string>): void {
  history.replaceState(null, "", hrefOf(route.value.view, route.value.id, query));
  route.value = parseRoute(location.hash);
}

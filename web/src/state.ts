import { effect, signal } from "@preact/signals";
import { createDaybook, type Daybook } from "daybook-client";
import { keptIn } from "./model/kept";
import { createStore, type Store } from "./model/store";
import { config, session, signOut } from "./session";

/** The signed-in user's tasks, and the client that reads and writes them. They stay when the token ends: the same user
 * goes on where they were. */
export const user = signal<{ store: Store; daybook: Daybook } | null>(null);

/** Sign out since the user wants to: nothing of theirs stays on the screen or in the tab, nor is anything sent. */
export function leave(): void {
  const store = user.value?.store;
  user.value = null;
  signOut();
  store?.forget();
}

/** Have the browser ask before the tab is closed while changes wait that would be lost with it. */
export function warnBeforeLoss(): void {
  addEventListener("beforeunload", (event) => {
    if (session.value && user.value?.store.atRisk.value) event.preventDefault();
  });
}

/** Follow who is signed in: make the user's state, and keep it up to date as long as the token is taken. */
export function followSession(): void {
  let stop = new AbortController();
  effect(() => {
    const now = session.value;
    stop.abort();
    if (!now) return;
    stop = new AbortController();
    const { userId } = now;
    const known = user.peek();
    const store = known?.store.userId === userId ? known.store : createStore({ userId, ...keptIn(sessionStorage, userId) });
    const daybook = createDaybook({
      url: location.origin + config.base,
      userId,
      token: now.token,
      attempts: 2,
      fetch: async (...request) => {
        const answer = await fetch(...request);
        if (answer.status === 401 && session.peek() === now) signOut("Your sign-in has ended. Sign in again to go on.");
        return answer;
      },
    });
    user.value = { store, daybook };
    void store.follow(daybook, stop.signal);
  });
}

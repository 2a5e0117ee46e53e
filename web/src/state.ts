import { effect, signal } from "@preact/signals";
import { createDaybook, type Daybook } from "daybook-client";
import type { Waiting } from "./model/changes";
import { createStore, type Store } from "./model/store";
import { config, session, signOut } from "./session";

/** The signed-in user's tasks, and the client that reads and writes them. They stay when the token ends: the same user
 * goes on where they were. */
export const user = signal<{ store: Store; daybook: Daybook } | null>(null);

/** Sign out since the user wants to: nothing of theirs stays on the screen. */
export function leave(): void {
  user.value = null;
  signOut();
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
    const store = known?.store.userId === userId ? known.store : createStore({ userId, ...outboxOf(userId) });
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

/** Keep what waits in the tab's storage, so that a reload, or the way to the sign-in page and back, loses nothing. */
function outboxOf(userId: string) {
  const name = `daybook.outbox.${userId}`;
  const kept = sessionStorage.getItem(name);
  return {
    waiting: kept ? (JSON.parse(kept) as Waiting[]) : [],
    keep: (waiting: readonly Waiting[]) => sessionStorage.setItem(name, JSON.stringify(waiting)),
  };
}

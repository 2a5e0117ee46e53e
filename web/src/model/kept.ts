import type { Waiting } from "./changes";

/** Keep what waits in the tab's storage, so that a reload, or the way to the sign-in page and back, loses nothing. */
export function keptIn(storage: Storage, userId: string) {
  const name = `daybook.outbox.${userId}`;
  const kept = storage.getItem(name);
  return {
    waiting: kept ? (JSON.parse(kept) as Waiting[]) : [],
    /** Return whether it is kept: the storage may be full. */
    keep(waiting: readonly Waiting[]): boolean {
      if (!waiting.length) storage.removeItem(name);
      else {
        try {
          storage.setItem(name, JSON.stringify(waiting));
        } catch (error) {
          if (error instanceof DOMException) return false;
          throw error;
        }
      }
      return true;
    },
  };
}

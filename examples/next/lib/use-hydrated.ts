import { useSyncExternalStore } from "react";

const subscribe = () => () => {};

/** Tell whether React handles events yet. A form that is sent before goes into the address, with all its fields. */
export function useHydrated(): boolean {
  return useSyncExternalStore(
    subscribe,
    () => true,
    () => false,
  );
}

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

const OFF = "daybook.keys-off";

/** Whether keys without a modifier do something. They can be turned off, since speech input may type them by mistake. */
export const keysOn = signal(localStorage.getItem(OFF) === null);

export function turnKeys(on: boolean): void {
  keysOn.value = on;
  if (on) localStorage.removeItem(OFF);
  else localStorage.setItem(OFF, "1");
}

export type Keys = Record<string, (event: KeyboardEvent) => void>;

/** Run the function of a key that is pressed, unless the user is typing, or a dialog is open. */
export function useKeys(keys: Keys): void {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const run = current.current[event.key];
      if (!run || !keysOn.peek() || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      if (
        target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog") ||
        document.querySelector("dialog[open]")
      )
        return;
      event.preventDefault();
      run(event);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

import type { Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { keysOn, turnKeys } from "../ui/keys";

const KEYS: [string, string][] = [
  ["/", "search"],
  ["n", "new task"],
  ["j", "next task"],
  ["k", "task before"],
  ["x", "complete, or open again"],
  ["e", "edit"],
  ["u", "undo the last change"],
  ["h", "history of the task"],
  ["?", "this list"],
];

export function Shortcuts({ open }: { open: Signal<boolean> }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open.value) dialog.current!.showModal();
    else dialog.current!.close();
  }, [open.value]);
  return (
    <dialog ref={dialog} class="shortcuts" aria-labelledby="shortcuts" onClose={() => (open.value = false)}>
      <h2 id="shortcuts">Keyboard</h2>
      <dl>
        {KEYS.map(([key, text]) => (
          <div>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input type="checkbox" checked={keysOn.value} onChange={(event) => turnKeys(event.currentTarget.checked)} />
        Keys are on
      </label>
      <button type="button" class="primary" onClick={() => dialog.current!.close()}>
        Close
      </button>
    </dialog>
  );
}

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { messageOf } from "../model/store";
import { user } from "../state";

/** Say what it means to erase a deleted task's content, and do it if the user wants it. It is no form: the Enter key
 * must not do what can't be undone. */
export function EraseDialog({ id, title, close }: { id: string; title: string; close: () => void }) {
  const { daybook, store } = user.value!;
  const dialog = useRef<HTMLDialogElement>(null);
  const reason = useRef<HTMLInputElement>(null);
  const failure = useSignal("");
  const busy = useSignal(false);
  useEffect(() => dialog.current!.showModal(), []);
  const erase = async () => {
    busy.value = true;
    try {
      const why = reason.current!.value.trim();
      await daybook.eraseTask(id, why ? { reason: why } : {});
      store.tell("Erased for good.");
      close();
    } catch (error) {
      failure.value = messageOf(error);
    }
    busy.value = false;
  };
  return (
    <dialog ref={dialog} class="erase" aria-labelledby="erase" onClose={close}>
      <h2 id="erase">
        Erase “<bdi>{title}</bdi>” for good?
      </h2>
      <p>
        All that it said, and where its changes came from, is removed from the log. <b>This can't be undone.</b>
      </p>
      <p>
        The log keeps only that something happened: of which kind, when, and who did it. Exports and backups that were
        made before still have the rest.
      </p>
      <label>
        Reason, which the log keeps, too (optional)
        <input ref={reason} dir="auto" maxLength={500} autocomplete="off" />
      </label>
      {failure.value && <p role="alert">{failure.value}</p>}
      <div class="buttons">
        <button type="button" class="danger" disabled={busy.value} onClick={() => void erase()}>
          Erase for good
        </button>
        <button type="button" onClick={() => dialog.current!.close()}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}

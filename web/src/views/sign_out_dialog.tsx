import { useEffect, useRef } from "preact/hooks";
import { leave, user } from "../state";

/** Ask before changes are lost that haven't been sent. They may be, while the user reads. */
export function SignOutDialog({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  const count = user.value!.store.pending.value.length;
  const many = `${count} changes haven't been sent. Sign out and lose them?`;
  const text = count === 1 ? "One change hasn't been sent. Sign out and lose it?" : many;
  return (
    <dialog ref={dialog} class="sign-out" aria-labelledby="sign-out" onClose={close}>
      <h2 id="sign-out">Sign out?</h2>
      <p role="status">{count ? text : "All changes have been sent."}</p>
      <div class="buttons">
        <button type="button" class={count ? "danger" : "primary"} onClick={leave}>
          {!count ? "Sign out" : count === 1 ? "Sign out and lose it" : "Sign out and lose them"}
        </button>
        <button type="button" onClick={() => dialog.current!.close()}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}

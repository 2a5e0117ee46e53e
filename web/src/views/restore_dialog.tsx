import { useSignal } from "@preact/signals";
import { isProblem } from "daybook-client";
import { useEffect, useRef } from "preact/hooks";
import { momentText } from "../log/days";
import { listOf } from "../log/words";
import { messageOf } from "../model/store";
import { user } from "../state";

type DryRun = Awaited<ReturnType<NonNullable<typeof user.value>["daybook"]["restoreAll"]>>;
type Changed = DryRun["changes"][number];

const SHOWN = 100;

/** Show what putting all tasks back would change, and do just that if the user wants it. */
export function RestoreDialog({ moment, close }: { moment: string; close: () => void }) {
  const { daybook, store } = user.value!;
  const dialog = useRef<HTMLDialogElement>(null);
  const dryRun = useSignal<DryRun | null>(null);
  const failure = useSignal("");
  const busy = useSignal(false);
  const look = async () => {
    try {
      dryRun.value = await daybook.restoreAll({ as_of: moment, dry_run: true });
    } catch (error) {
      failure.value = messageOf(error);
    }
  };
  useEffect(() => {
    dialog.current!.showModal();
    void look();
  }, []);
  const restore = async () => {
    busy.value = true;
    try {
      const done = await daybook.restoreAll({ as_of: moment }, { ifMatch: dryRun.value!.etag ?? undefined });
      store.tell(`Restored ${countText(done.changes.length)}. Each is an event of its own, which can be undone.`);
      close();
    } catch (error) {
      const stale = isProblem(error, "/problems/precondition-failed");
      failure.value = stale ? "The tasks have changed meanwhile; this is what would change now." : messageOf(error);
      if (stale) await look();
    }
    busy.value = false;
  };
  const there = new Set(store.tasks.value.map(({ id }) => id));
  const changes = dryRun.value?.changes ?? [];
  return (
    <dialog ref={dialog} class="restore" aria-labelledby="restore" onClose={close}>
      <h2 id="restore">Restore all to {momentText(moment)}?</h2>
      <p role="status">{dryRun.value ? `${countText(changes.length)} would change.` : !failure.value && "Looking what would change …"}</p>
      {failure.value && <p role="alert">{failure.value}</p>}
      {changes.length > 0 && (
        <ul tabIndex={0} aria-label="Changes">
          {changes.slice(0, SHOWN).map((change) => (
            <li key={change.task_id}>
              {changeText(change, there.has(change.task_id))} <bdi>{change.title}</bdi>
            </li>
          ))}
          {changes.length > SHOWN && <li>and {countText(changes.length - SHOWN)} more</li>}
        </ul>
      )}
      <div class="buttons">
        <button type="button" class="primary" disabled={!changes.length || busy.value} onClick={() => void restore()}>
          Restore {changes.length > 0 && countText(changes.length)}
        </button>
        <button type="button" onClick={() => dialog.current!.close()}>
          Cancel
        </button>
      </div>
    </dialog>
  );
}

function countText(count: number): string {
  return count === 1 ? "1 task" : `${count.toLocaleString()} tasks`;
}

function changeText({ type, fields }: Changed, isThere: boolean): string {
  if (type === "TaskDeleted") return "delete";
  if (!isThere) return "bring back";
  return `put back the ${listOf(fields as Parameters<typeof listOf>[0])} of`;
}

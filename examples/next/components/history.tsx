import { useQuery } from "@tanstack/react-query";
import { type AuditEvent, all, type Task } from "daybook-client";
import { useEffect, useRef } from "react";
import { useTasks } from "./tasks-provider";
import { useUndo } from "./use-undo";

/** Show a task's events, oldest first, and take back any of them. */
export function History({ task, onClose }: { task: Task; onClose: () => void }) {
  const { daybook, tasks } = useTasks();
  const { undo } = useUndo();
  const { data, error } = useQuery({
    queryKey: [...tasks.keys.all, "history", task.id], // under `all`, so that the stream has it fetched again
    queryFn: ({ signal }) => all((query, options) => daybook.getHistory(task.id, query, options), {}, { signal }),
  });
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);

  return (
    <dialog ref={dialog} aria-label="History" onClose={onClose}>
      <h2>{task.title}</h2>
      {error && !data && <p role="alert">{error.message}</p>}
      <ol>
        {data?.map((event) => (
          <li key={event.seq}>
            <time dateTime={event.at}>{new Date(event.at).toLocaleString()}</time>
            <span>{described(event)}</span>
            <button type="button" onClick={() => undo(event.seq)}>
              Undo this
            </button>
          </li>
        ))}
      </ol>
      <form method="dialog">
        <button type="submit">Close</button>
      </form>
    </dialog>
  );
}

const WORDS = {
  TaskCreated: "Created",
  TaskUpdated: "Changed",
  TaskToggled: "Completed or reopened",
  TaskDeleted: "Deleted",
  TaskRestored: "Restored",
  TaskErased: "Erased for good",
  UserErased: "All erased for good",
};

function described({ type, changes }: AuditEvent): string {
  const title = changes.title;
  return title?.from && title.to ? `${WORDS[type]}: “${title.from}” to “${title.to}”` : WORDS[type];
}

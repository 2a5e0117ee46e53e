import { useMutation } from "@tanstack/react-query";
import type { Task } from "daybook-client";
import type { Result } from "daybook-client/tanstack";
import { type FormEvent, useState } from "react";
import { useTasks } from "./tasks-provider";

interface Props {
  task: Task;
  onChanged: (result: Result) => void;
  onHistory: () => void;
}

export function TaskRow({ task, onChanged, onHistory }: Props) {
  // #region writes
  const { tasks } = useTasks();
  const complete = useMutation({ ...tasks.complete(), onSuccess: onChanged });
  const update = useMutation({ ...tasks.update(), onSuccess: onChanged });
  const remove = useMutation({ ...tasks.remove(), onSuccess: onChanged });
  const [edited, setEdited] = useState<Task | null>(null); // as it was when the edit began: a later change is a conflict

  function save(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const title = String(new FormData(event.currentTarget).get("title"));
    if (edited) update.mutate({ task: edited, changes: { title } });
    setEdited(null);
  }
  // #endregion

  if (edited) {
    return (
      <li>
        <form onSubmit={save}>
          <input name="title" aria-label="Title" defaultValue={edited.title} required maxLength={255} />
          <button type="submit">Save</button>
          <button type="button" onClick={() => setEdited(null)}>
            Cancel
          </button>
        </form>
      </li>
    );
  }
  return (
    <li>
      <label>
        <input
          type="checkbox"
          checked={task.completed}
          onChange={(event) => complete.mutate({ task, completed: event.target.checked })}
        />
        <span>{task.title}</span>
      </label>
      <button type="button" onClick={() => setEdited(task)}>
        Edit
      </button>
      <button type="button" onClick={onHistory}>
        History
      </button>
      <button type="button" onClick={() => remove.mutate({ task })}>
        Delete
      </button>
    </li>
  );
}

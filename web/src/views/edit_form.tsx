import type { Task, TaskChanges } from "daybook-client";
import { useEffect, useRef } from "preact/hooks";
import { changesOf, tagsProblem } from "../model/edit";
import { hrefOf } from "../route";
import { user } from "../state";
import { type Place, placed } from "../ui/window";

interface Props {
  place: Place;
  /** The task as it was when the editing began: a change is refused if somebody else changes it meanwhile. */
  task: Task;
  close: () => void;
  measured: (height: number) => void;
}

/** The form in a task's place. Its inputs keep what is typed, whatever happens to the list meanwhile. */
export function EditForm({ place, task, close, measured }: Props) {
  const { store } = user.value!;
  const item = useRef<HTMLLIElement>(null);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    const title = form.current!.elements.namedItem("title") as HTMLInputElement;
    title.focus({ preventScroll: true });
    title.setSelectionRange(title.value.length, title.value.length);
    item.current!.scrollIntoView({ block: "nearest" });
    const observer = new ResizeObserver(() => item.current && measured(item.current.offsetHeight));
    observer.observe(item.current!);
    return () => observer.disconnect();
  }, []);
  const save = (event: Event) => {
    event.preventDefault();
    const fields: TaskChanges = changesOf(task, new FormData(form.current!));
    if (Object.keys(fields).length) store.submit({ op: "update", id: task.id, fields }, task);
    close();
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.current!.requestSubmit();
  };
  const timed = task.due_date?.includes("T") ?? false;
  return (
    <li {...placed(place)} ref={item} class="row editing">
      <form ref={form} onSubmit={save} onKeyDown={keys} aria-label={`Edit ${task.title}`}>
        <label class="wide">
          Title
          <input name="title" required maxLength={255} dir="auto" defaultValue={task.title} autocomplete="off" />
        </label>
        <label class="wide">
          Description
          <textarea name="description" rows={3} maxLength={5000} dir="auto" defaultValue={task.description ?? ""} />
        </label>
        <label>
          Due
          <input name="due_date" type={timed ? "datetime-local" : "date"} defaultValue={dueInput(task.due_date)} />
        </label>
        <label>
          Priority
          <select name="priority">
            {["", "low", "medium", "high"].map((each) => (
              <option value={each} selected={each === (task.priority ?? "")}>
                {each || "none"}
              </option>
            ))}
          </select>
        </label>
        <label class="wide">
          Tags, by commas
          <input
            name="tags"
            dir="auto"
            defaultValue={task.tags.join(", ")}
            onInput={({ currentTarget }) => currentTarget.setCustomValidity(tagsProblem(currentTarget.value, task.tags))}
            autocomplete="off"
          />
        </label>
        <div class="buttons wide">
          <button type="submit" class="primary">
            Save
          </button>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <span class="spring" />
          <a class="button quiet" href={hrefOf("task", task.id)}>
            History
          </a>
          <button type="button" class="quiet danger" onClick={() => (close(), store.remove(task))}>
            Delete
          </button>
        </div>
      </form>
    </li>
  );
}

/** Write a due date as its input wants it: a day, or the browser's own time of a moment. */
function dueInput(due: string | null): string {
  if (!due?.includes("T")) return due ?? "";
  const moment = new Date(due);
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

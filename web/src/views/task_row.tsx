import type { Task } from "daybook-client";
import { dueText } from "../log/words";
import { isOverdue } from "../model/filters";
import { hrefOf } from "../route";
import { user } from "../state";
import { Icon } from "../ui/icons";
import { type Place, placed } from "../ui/window";

interface Props {
  place: Place;
  task: Task;
  now: Date;
  current: boolean;
  onFocus: () => void;
  edit: () => void;
}

export function TaskRow({ place, task, now, current, onFocus, edit }: Props) {
  const { store } = user.value!;
  const toggle = () => store.submit({ op: "complete", id: task.id, completed: !task.completed }, task);
  return (
    <li
      {...placed(place)}
      class={`row${task.completed ? " done" : ""}${current ? " current" : ""}`}
      onFocusIn={onFocus}
    >
      <label class="tick">
        <input type="checkbox" checked={task.completed} onChange={toggle} aria-label={`Done: ${task.title}`} />
      </label>
      <button type="button" class="title" onClick={edit}>
        <span class="text" dir="auto">
          {task.title}
        </span>
        <Meta task={task} now={now} />
      </button>
      <div class="actions">
        <a href={hrefOf("task", task.id)} aria-label={`History of ${task.title}`} title="History">
          <Icon name="clock" />
        </a>
        <button type="button" aria-label={`Delete ${task.title}`} title="Delete" onClick={() => store.remove(task)}>
          <Icon name="trash" />
        </button>
      </div>
    </li>
  );
}

/** What is to be known of a task at a glance, on one line. */
export function Meta({ task, now }: { task: Task; now: Date }) {
  const { due_date, priority, tags, description } = task;
  if (!due_date && !priority && !tags.length && !description) return null;
  const overdue = isOverdue(task, now);
  return (
    <span class="meta">
      {priority && <span class={`priority ${priority}`}>{priority}</span>}
      {due_date && (
        <span class={overdue ? "due overdue" : "due"}>{`${overdue ? "overdue, " : ""}${dueText(due_date)}`}</span>
      )}
      {tags.map((tag) => (
        <bdi class="tag">{tag}</bdi>
      ))}
      {description && (
        <span class="excerpt" dir="auto">
          {description.slice(0, 160)}
        </span>
      )}
    </span>
  );
}

import type { Task } from "daybook-client";
import { useMemo, useRef } from "preact/hooks";
import { placed, useRange, useRowHeight } from "../ui/window";
import { Meta } from "./task_row";

/** Tasks as they were: the same list, to look at only. `changed` is the id of the one that the last event was about. */
export function PastList({ tasks, changed }: { tasks: Task[]; changed: string | undefined }) {
  const list = useRef<HTMLUListElement>(null);
  const rowHeight = useRowHeight();
  const range = useRange(list, tasks.length, rowHeight);
  const now = useMemo(() => new Date(), []);
  return (
    <ul ref={list} class="tasks" style={{ height: `${tasks.length * rowHeight}px` }}>
      {tasks.slice(range.first, range.end).map((task, place) => {
        const index = range.first + place;
        return (
          <li
            key={task.id}
            {...placed({ id: task.id, top: index * rowHeight, index, count: tasks.length })}
            class={`row${task.completed ? " done" : ""}${task.id === changed ? " current" : ""}`}
          >
            <span class="tick" role="img" aria-label={task.completed ? "Done" : "Open"} />
            <span class="title">
              <span class="text" dir="auto">
                {task.title}
              </span>
              <Meta task={task} now={now} />
            </span>
          </li>
        );
      })}
    </ul>
  );
}

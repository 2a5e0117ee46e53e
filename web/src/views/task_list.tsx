import { useSignal } from "@preact/signals";
import type { Task } from "daybook-client";
import { useEffect, useImperativeHandle, useRef, useState } from "preact/hooks";
import { useRange, useRowHeight } from "../ui/window";
import { EditForm } from "./edit_form";
import { TaskRow } from "./task_row";

/** What the keyboard does with the list. */
export interface ListHandle {
  /** Make the next (1) or previous (-1) task the current one. */
  move(step: number): void;
  edit(): void;
  current(): Task | undefined;
}

interface Props {
  handle: { current: ListHandle | null };
  tasks: Task[];
  now: Date;
}

/** The list. Only rows near the screen are in the document, so that thousands of tasks scroll as a few do. */
export function TaskList({ handle, tasks: selected, now }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const rowHeight = useRowHeight();
  const current = useSignal<string | null>(null);
  const editing = useSignal<Task | null>(null);
  const placeOfForm = useRef(0);
  const tasks = withEdited(selected, editing.value, placeOfForm.current);
  const [formHeight, setFormHeight] = useState(0);
  const range = useRange(list, tasks.length, rowHeight);
  const indexOf = (id: string | undefined | null) => (id ? tasks.findIndex((task) => task.id === id) : -1);
  const edited = indexOf(editing.value?.id);
  if (edited >= 0) placeOfForm.current = edited;
  const extra = edited >= 0 && formHeight ? formHeight - rowHeight : 0;
  const topOf = (index: number) => index * rowHeight + (edited >= 0 && index > edited ? extra : 0);
  const focusRow = (id: string) =>
    list.current?.querySelector<HTMLElement>(`[data-id="${id}"] .title`)?.focus({ preventScroll: true });
  const select = (index: number) => {
    const task = tasks[Math.max(0, Math.min(tasks.length - 1, index))];
    if (!task) return;
    current.value = task.id;
    const top = list.current!.getBoundingClientRect().top + topOf(indexOf(task.id));
    if (top < innerHeight * 0.2 || top > innerHeight * 0.8)
      scrollBy({ top: top - innerHeight / 2, behavior: "instant" });
    requestAnimationFrame(() => focusRow(task.id));
  };
  const placeOfCurrent = useRef(0);
  useEffect(() => {
    const place = indexOf(current.value);
    if (place >= 0) placeOfCurrent.current = place;
    else if (current.value && document.activeElement === document.body) select(placeOfCurrent.current); // its row went
  });
  useImperativeHandle(handle, () => ({
    move: (step) => select(indexOf(current.value) < 0 ? 0 : indexOf(current.value) + step),
    edit: () => (editing.value = tasks[indexOf(current.value)] ?? null),
    current: () => tasks[indexOf(current.value)],
  }));
  const close = () => {
    const { id } = editing.value!;
    editing.value = null;
    setFormHeight(0);
    requestAnimationFrame(() => focusRow(id));
  };
  const kept = [indexOf(current.value), edited].filter(
    (index) => index >= 0 && (index < range.first || index >= range.end),
  );
  const shown = [...kept, ...Array.from({ length: range.end - range.first }, (_, index) => range.first + index)];
  return (
    <ul ref={list} class="tasks" style={{ height: `${tasks.length * rowHeight + extra}px` }}>
      {shown
        .filter((index) => index < tasks.length)
        .sort((a, b) => a - b)
        .map((index) => {
          const task = tasks[index]!;
          const place = { id: task.id, top: topOf(index), index, count: tasks.length };
          return index === edited ? (
            <EditForm key={task.id} place={place} task={editing.value!} close={close} measured={setFormHeight} />
          ) : (
            <TaskRow
              key={task.id}
              place={place}
              task={task}
              now={now}
              current={task.id === current.value}
              onFocus={() => (current.value = task.id)}
              edit={() => (editing.value = task)}
            />
          );
        })}
    </ul>
  );
}

/** Return the tasks with the one that is being edited, also if the filter leaves it out by now, or it was deleted
 * elsewhere: what is typed stays until the user saves it or not. */
function withEdited(tasks: Task[], editing: Task | null, place: number): Task[] {
  if (!editing || tasks.some(({ id }) => id === editing.id)) return tasks;
  return tasks.toSpliced(place, 0, editing);
}

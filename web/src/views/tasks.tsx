import { useComputed, useSignal } from "@preact/signals";
import { newKey, type Task } from "daybook-client";
import { useEffect, useRef } from "preact/hooks";
import { filterOf, type Filter, NO_FILTER, queryOf, select, tagsOf } from "../model/filters";
import { hrefOf, route, setQuery } from "../route";
import { user } from "../state";
import { useKeys } from "../ui/keys";
import { Choice, FilterBar, SORTS } from "./filter_bar";
import { TaskList, type ListHandle } from "./task_list";

export function Tasks() {
  const { store } = user.value!;
  const add = useRef<HTMLInputElement>(null);
  const search = useRef<HTMLInputElement>(null);
  const list = useRef<ListHandle>(null);
  const now = useNow();
  const filter = useComputed(() => filterOf(route.value.query));
  const shown = useComputed(() => select(store.tasks.value, filter.value, now.value));
  const tags = useComputed(() => tagsOf(store.tasks.value));
  const change = (part: Partial<Filter>) => setQuery(queryOf({ ...filter.value, ...part }));
  useKeys({
    "/": () => search.current?.focus(),
    n: () => add.current?.focus(),
    j: () => list.current?.move(1),
    k: () => list.current?.move(-1),
    x: () => onCurrent((task) => store.submit({ op: "complete", id: task.id, completed: !task.completed }, task)),
    e: () => list.current?.edit(),
    u: () => void store.undo(),
    h: () => onCurrent((task) => (location.hash = hrefOf("task", task.id))),
  });
  const onCurrent = (act: (task: Task) => void) => {
    const task = list.current?.current();
    if (task) act(task);
  };
  return (
    <div class="column">
      <h1 class="hidden">Tasks</h1>
      <AddForm input={add} add={(title) => store.submit({ op: "create", id: newKey(), fields: { title } }, null)} />
      <FilterBar filter={filter.value} tags={tags.value} change={change} search={search} />
      <div class="above">
        <p class="count" role="status">
          {store.loaded.value ? countText(shown.value.length, store.tasks.value.length) : "Reading your tasks …"}
        </p>
        <Choice
          name="Order"
          value={filter.value.sort}
          options={SORTS}
          choose={(sort) => change({ sort: sort as Filter["sort"] })}
        />
      </div>
      <TaskList handle={list} tasks={shown.value} now={now.value} />
      {store.loaded.value && !shown.value.length && (
        <Empty any={store.tasks.value.length > 0} clear={() => change(NO_FILTER)} />
      )}
    </div>
  );
}

function countText(shown: number, all: number): string {
  const tasks = (count: number) => `${count.toLocaleString()} ${count === 1 ? "task" : "tasks"}`;
  return shown === all ? tasks(all) : `${shown.toLocaleString()} of ${tasks(all)}`;
}

/** The time, moved on once a minute: tasks become overdue by themselves. */
function useNow() {
  const now = useSignal(new Date());
  useEffect(() => {
    const timer = setInterval(() => (now.value = new Date()), 60_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function AddForm({ input, add }: { input: { current: HTMLInputElement | null }; add: (title: string) => void }) {
  const submit = (event: Event) => {
    event.preventDefault();
    const title = input.current!.value.trim();
    if (title) add(title);
    input.current!.value = "";
  };
  return (
    <form class="add" onSubmit={submit}>
      <label class="hidden" for="add">
        New task
      </label>
      <input ref={input} id="add" dir="auto" maxLength={255} placeholder="What is to be done?" autocomplete="off" />
      <button type="submit" class="primary">
        Add
      </button>
    </form>
  );
}

function Empty({ any, clear }: { any: boolean; clear: () => void }) {
  if (!any) {
    return (
      <div class="empty">
        <p class="lead">Nothing to do yet.</p>
        <p>Write the first task above. Whatever happens to it later, its history stays.</p>
      </div>
    );
  }
  return (
    <div class="empty">
      <p class="lead">No task fits.</p>
      <button type="button" onClick={clear}>
        Show all tasks
      </button>
    </div>
  );
}

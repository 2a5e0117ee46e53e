"use client";

import { useMutation, useQuery } from "@tanstack/react-query";
import type { Task } from "daybook-client";
import { type FormEvent, useState } from "react";
import { useHydrated } from "@/lib/use-hydrated";
import { History } from "./history";
import { SignOut } from "./sign-out";
import { TaskRow } from "./task-row";
import { useTasks } from "./tasks-provider";
import { useUndo } from "./use-undo";
import { WaitingWrites } from "./waiting-writes";

export function TaskList({ name }: { name: string }) {
  const { tasks, notice, setNotice } = useTasks();
  const hydrated = useHydrated();
  const { data, error } = useQuery(tasks.list());
  const { offerUndo, undoButton } = useUndo();
  const create = useMutation({ ...tasks.create(), onSuccess: offerUndo });
  const [shown, setShown] = useState<Task | null>(null);

  function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    create.mutate({ title: String(new FormData(form).get("title")) });
    form.reset();
  }

  return (
    <main>
      <header>
        <h1>Tasks of {name}</h1>
        <SignOut />
      </header>
      {notice && (
        <p role="alert">
          {notice}{" "}
          <button type="button" onClick={() => setNotice("")}>
            OK
          </button>
        </p>
      )}
      <WaitingWrites />
      <form onSubmit={add}>
        <input name="title" aria-label="New task" placeholder="New task" required maxLength={255} />
        <button type="submit" disabled={!hydrated}>
          Add
        </button>
        {undoButton}
      </form>
      {error && !data && <p role="alert">{error.message}</p>}
      <ul aria-label="Tasks">
        {data?.map((task) => (
          <TaskRow key={task.id} task={task} onChanged={offerUndo} onHistory={() => setShown(task)} />
        ))}
      </ul>
      {shown && <History task={shown} onClose={() => setShown(null)} />}
    </main>
  );
}

import { useSignal, type Signal } from "@preact/signals";
import { all, type AuditEvent, DaybookError } from "daybook-client";
import { useEffect } from "preact/hooks";
import { momentText } from "../log/days";
import { isErased, withoutContent } from "../log/erasure";
import { sentenceOf } from "../log/words";
import { messageOf } from "../model/store";
import { hrefOf } from "../route";
import { user } from "../state";
import { ChangeList } from "./event_line";
import { EraseDialog } from "./erase_dialog";
import { UndoButton } from "./history";
import { Meta } from "./task_row";

/** A task's own page: as it is, and each of its versions. It is there also after the task was deleted. */
export function TaskPage({ id }: { id: string }) {
  const { store } = user.value!;
  const events = useSignal<AuditEvent[]>([]);
  const failure = useSignal("Reading …");
  useHistory(id, events, failure);
  const task = store.tasks.value.find((each) => each.id === id);
  const titles = titlesOf(events.value);
  const last = events.value.at(-1);
  const title = task?.title ?? (last && isErased(last) ? "An erased task" : titles.at(-1));
  return (
    <div class="column">
      <p class="crumb">
        <a href={hrefOf("tasks")}>Tasks</a>
      </p>
      <h1 class="task-title" dir="auto">
        {title ?? "A task"}
      </h1>
      {task?.description && (
        <p class="description" dir="auto">
          {task.description}
        </p>
      )}
      {task ? (
        <Meta task={{ ...task, description: null }} now={new Date()} />
      ) : (
        last && <Gone last={last} title={titles.at(-1)!} />
      )}
      <h2>Versions</h2>
      {failure.value && <p role="status">{failure.value}</p>}
      <ol class="timeline versions" reversed>
        {events.value
          .map((event, index) => ({ event, title: titles[index] ?? "" }))
          .reverse()
          .map(({ event, title }) => (
            <li key={event.seq} class={event.type}>
              <span class="version">{event.version}</span>
              <div class="what">
                <span class="sentence">
                  {describe(event)} <time dateTime={event.at}>{momentText(event.at)}</time>
                </span>
                <ChangeList event={event} />
                <Details event={event} />
              </div>
              <div class="buttons">
                <RestoreButton event={event} last={last!} />
                <UndoButton event={event} title={title} />
              </div>
            </li>
          ))}
      </ol>
    </div>
  );
}

/** Read the task's events, oldest first, and put those that happen while the page is open. */
function useHistory(id: string, events: Signal<AuditEvent[]>, failure: Signal<string>): void {
  const { store, daybook } = user.value!;
  useEffect(() => {
    const stop = new AbortController();
    const show = (all: AuditEvent[]) => {
      events.value = all.some(({ type }) => type === "TaskErased") ? all.map(withoutContent) : all;
    };
    const read = async () => {
      try {
        const history: typeof daybook.listEvents = (query, options) => daybook.getHistory(id, query ?? {}, options);
        const found = await all(history, { limit: 1000 }, { signal: stop.signal });
        show([...found, ...events.value.filter(({ seq }) => seq > (found.at(-1)?.seq ?? 0))]);
        failure.value = "";
      } catch (error) {
        if (stop.signal.aborted) return;
        failure.value =
          error instanceof DaybookError && error.status === 404 ? "There is no such task." : messageOf(error);
      }
    };
    void read();
    const unsubscribe = store.event.subscribe((event) => {
      if (event?.task_id === id && event.seq > (events.peek().at(-1)?.seq ?? 0)) show([...events.peek(), event]);
    });
    return () => (stop.abort(), unsubscribe());
  }, [id, daybook]);
}

/** Say that a task is gone, and offer to erase what is left of it. */
function Gone({ last, title }: { last: AuditEvent; title: string }) {
  const erasing = useSignal(false);
  if (isErased(last)) return <p class="gone">It was erased for good.</p>;
  return (
    <div class="gone">
      <p>It was deleted.</p>
      {last.type === "TaskDeleted" && (
        <button type="button" class="danger" onClick={() => (erasing.value = true)}>
          Erase for good…
        </button>
      )}
      {erasing.value && <EraseDialog id={last.task_id} title={title} close={() => (erasing.value = false)} />}
    </div>
  );
}

/** Return the title after each event. */
function titlesOf(events: AuditEvent[]): string[] {
  let title = "";
  return events.map(({ changes }) => (title = changes.title?.to ?? changes.title?.from ?? title));
}

function describe(event: AuditEvent): string {
  const { before, after } = sentenceOf(event);
  const [first = "", ...rest] = `${before.replace(/ (of|the)$/, "")} ${after}`.trim();
  return first.toUpperCase() + rest.join("");
}

function Details({ event }: { event: AuditEvent }) {
  const { address, agent } = event.client;
  return (
    <details>
      <summary>Event {event.seq}</summary>
      <dl class="changes">
        <div>
          <dt>hash</dt>
          <dd>
            <code>{event.hash}</code>
          </dd>
        </div>
        <div>
          <dt>by</dt>
          <dd dir="auto">{[event.actor, address, agent].filter(Boolean).join(" · ")}</dd>
        </div>
        {event.request_id && (
          <div>
            <dt>request</dt>
            <dd>
              <code>{event.request_id}</code>
            </dd>
          </div>
        )}
      </dl>
    </details>
  );
}

/** Offer to put the task back to a version, unless it is that one, or one at which it was deleted, or erased. */
function RestoreButton({ event, last }: { event: AuditEvent; last: AuditEvent }) {
  const { store, daybook } = user.value!;
  if (event === last || event.type === "TaskDeleted" || isErased(event)) return null;
  const restore = async () => {
    try {
      const done = await daybook.restoreTask(event.task_id, { version: event.version });
      const action = done.seq === null ? undefined : { name: "Undo", run: () => void store.undo(done.seq!) };
      store.tell(done.seq === null ? "It is so already." : `It is as it was at version ${event.version}.`, action);
    } catch (error) {
      store.tell(messageOf(error));
    }
  };
  return (
    <button
      type="button"
      class="quiet"
      aria-label={`Put back to version ${event.version}`}
      onClick={() => void restore()}
    >
      Put back
    </button>
  );
}

import { useComputed } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { type AuditEvent } from "daybook-client";
import { byDay, dayName, dayOf, momentText, rowTime, timeText } from "../log/days";
import { download, save } from "../log/download";
import { isErased, nameWithout } from "../log/erasure";
import { sentenceOf, titleOf, titlesAt } from "../log/words";
import {
  createEventList,
  EVENT_TYPES,
  eventFilterOf,
  type EventFilter,
  type EventList,
  parametersOf,
} from "../model/events";
import { messageOf } from "../model/store";
import { hrefOf, route, setQuery } from "../route";
import { user } from "../state";
import { Icon } from "../ui/icons";
import { useKeys } from "../ui/keys";
import { ChangeList, Sentence } from "./event_line";
import { Choice } from "./filter_bar";

const PAGE = 100;

export function History() {
  const { store, daybook } = user.value!;
  const filter = useComputed(() => eventFilterOf(route.value.query));
  const key = JSON.stringify(filter.value);
  const list = useMemo(() => createEventList(daybook, filter.value, PAGE), [daybook, key]);
  const table = route.value.query.get("view") === "table";
  useEffect(() => {
    const stop = new AbortController();
    void list.more(stop.signal);
    const unsubscribe = store.event.subscribe((event) => event && list.receive(event));
    return () => (stop.abort(), unsubscribe());
  }, [list]);
  useKeys({ u: () => void store.undo() });
  const change = (part: Record<string, string>) => setQuery({ ...filter.value, view: table ? "table" : "", ...part });
  return (
    <div class={table ? "column broad" : "column"}>
      <div class="heading">
        <h1>History</h1>
        <div class="buttons">
          <button type="button" aria-pressed={table} onClick={() => change({ view: table ? "" : "table" })}>
            Table
          </button>
          <Download filter={filter.value} format="csv" />
          <Download filter={filter.value} format="ndjson" />
        </div>
      </div>
      <EventFilterBar filter={filter.value} change={change} />
      {table ? <Table list={list} /> : <Timeline list={list} />}
      <More list={list} />
    </div>
  );
}

function EventFilterBar({ filter, change }: { filter: EventFilter; change: (part: Record<string, string>) => void }) {
  return (
    <search class="filters">
      <Choice
        name="What happened"
        value={filter.type}
        options={[["", "Whatever happened"], ...EVENT_TYPES]}
        choose={(type) => change({ type })}
      />
      <div class="dates">
        <label class="date">
          from
          <input
            type="date"
            value={filter.since}
            max={filter.until || undefined}
            onChange={(event) => change({ since: event.currentTarget.value })}
          />
        </label>
        <label class="date">
          to
          <input
            type="date"
            value={filter.until}
            min={filter.since || undefined}
            onChange={(event) => change({ until: event.currentTarget.value })}
          />
        </label>
      </div>
      {(filter.type || filter.since || filter.until) && (
        <button type="button" class="quiet" onClick={() => change({ type: "", since: "", until: "" })}>
          Show all
        </button>
      )}
    </search>
  );
}

function Download({ filter, format }: { filter: EventFilter; format: "csv" | "ndjson" }) {
  const { daybook, store } = user.value!;
  const type = format === "csv" ? "text/csv" : "application/x-ndjson";
  const run = async () => {
    try {
      const content = await download(daybook, { ...parametersOf(filter), format });
      save(`daybook-${dayOf(new Date())}.${format}`, content, type);
    } catch (error) {
      store.tell(messageOf(error));
    }
  };
  return (
    <button type="button" onClick={() => void run()} title={`Download what is selected, as ${format.toUpperCase()}`}>
      <Icon name="down" />
      {format.toUpperCase()}
    </button>
  );
}

/** Return the title of each event's task: as it was then, if all events since are known, else as it is known now. */
function useTitles(list: EventList): (event: AuditEvent) => string {
  const { store } = user.value!;
  const titles = useComputed(() => {
    const current = new Map(store.tasks.value.map(({ id, title }) => [id, title]));
    return { current, then: titlesAt([...list.events.value], current) };
  });
  return (event) => {
    const { seq, task_id } = event;
    if (isErased(event)) return nameWithout(event);
    return titleOf(null, titles.value.then.get(seq) ?? titles.value.current.get(task_id));
  };
}

function Timeline({ list }: { list: EventList }) {
  const titleAt = useTitles(list);
  const now = new Date();
  return (
    <>
      {byDay(list.events.value).map(([day, events]) => (
        <section class="day" key={day} aria-label={dayName(day, now)}>
          <h2>{dayName(day, now)}</h2>
          <ol class="timeline" reversed>
            {events.map((event) => (
              <li key={event.seq} class={event.type}>
                <time dateTime={event.at} title={momentText(event.at)}>
                  {timeText(event.at)}
                </time>
                <div class="what">
                  <Sentence event={event} title={titleAt(event)} />
                  <ChangeList event={event} />
                </div>
                <UndoButton event={event} title={titleAt(event)} />
              </li>
            ))}
          </ol>
        </section>
      ))}
    </>
  );
}

function Table({ list }: { list: EventList }) {
  const titleAt = useTitles(list);
  return (
    <div class="table" role="region" aria-label="Events" tabIndex={0}>
      <table>
        <thead>
          <tr>
            {["#", "When", "What", "Task", "Version", "Hash", ""].map((name) => (
              <th scope="col">{name || <span class="hidden">Undo</span>}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {list.events.value.map((event) => (
            <tr key={event.seq}>
              <td class="number">{event.seq}</td>
              <td>
                <time dateTime={event.at}>{rowTime(event.at)}</time>
              </td>
              <td>{whatOf(event)}</td>
              <td class="task">
                {event.type !== "UserErased" && (
                  <a href={hrefOf("task", event.task_id)} dir="auto">
                    {titleAt(event)}
                  </a>
                )}
              </td>
              <td class="number">{event.version}</td>
              <td>
                <code title={event.hash}>{event.hash.slice(0, 8)}</code>
              </td>
              <td>
                <UndoButton event={event} title={titleAt(event)} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function whatOf(event: AuditEvent): string {
  const { before, after } = sentenceOf(event);
  return after ? `${before} … ${after}` : before.replace(/ of$/, "");
}

export function UndoButton({ event, title }: { event: AuditEvent; title: string }) {
  const { store } = user.value!;
  if (isErased(event)) return null;
  return (
    <button
      type="button"
      class="quiet undo"
      aria-label={`Undo event ${event.seq}, about ${title}`}
      onClick={() => void store.undo(event.seq)}
    >
      <Icon name="undo" />
      <span>Undo</span>
    </button>
  );
}

function More({ list }: { list: EventList }) {
  const count = list.events.value.length;
  switch (list.state.value) {
    case "whole":
      return (
        <p class="end">{count ? `The beginning: ${count.toLocaleString()} events.` : "Nothing has happened here."}</p>
      );
    case "failed":
      return (
        <p class="end" role="alert">
          {list.failure.value}{" "}
          <button type="button" onClick={() => void list.more()}>
            Try again
          </button>
        </p>
      );
    default:
      return (
        <p class="end">
          <button type="button" disabled={list.state.value === "reading"} onClick={() => void list.more()}>
            {list.state.value === "reading" ? "Reading …" : "Show earlier events"}
          </button>
        </p>
      );
  }
}

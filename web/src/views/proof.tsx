import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Head } from "daybook-client";
import { momentText } from "../log/days";
import { download, save } from "../log/download";
import { isErased, nameWithout } from "../log/erasure";
import { titleOf } from "../log/words";
import { messageOf } from "../model/store";
import type { KeptHead } from "../proof/heads";
import { createProof, type Proof as Check, type State } from "../proof/proof";
import { user } from "../state";
import { Icon } from "../ui/icons";
import { ChangeList, Sentence } from "./event_line";

export function Proof() {
  const { daybook } = user.value!;
  const proof = useMemo(() => createProof(daybook), [daybook]);
  const stop = useRef(new AbortController());
  const run = () => {
    stop.current.abort();
    stop.current = new AbortController();
    void proof.run(stop.current.signal);
  };
  useEffect(() => {
    run();
    return () => stop.current.abort();
  }, [proof]);
  const state = proof.state.value;
  const busy = state.step === "reading" || state.step === "checking";
  return (
    <div class="column">
      <div class="heading">
        <h1>Proof</h1>
        <div class="buttons">
          <button type="button" disabled={busy} onClick={run}>
            Check again
          </button>
        </div>
      </div>
      <p class="lead">
        Each event carries a hash of itself and of all events before it. Your browser computes them anew here, and
        compares the last one with what it has kept from earlier visits.
      </p>
      <Result state={state} />
      <Kept proof={proof} state={state} />
      <Downloads />
    </div>
  );
}

function Result({ state }: { state: State }) {
  switch (state.step) {
    case "idle":
      return null;
    case "reading":
    case "checking":
      return (
        <section class="result busy" aria-label="Result">
          <p id="progress">{state.step === "reading" ? "Reading the log …" : "Computing the hashes …"}</p>
          <progress aria-labelledby="progress" max={Math.max(state.all, 1)} value={state.done} />
          <p class="figures">
            {state.done.toLocaleString()} of {state.all.toLocaleString()} events
          </p>
        </section>
      );
    case "fits":
      return <Fits state={state} />;
    case "empty":
      return (
        <section class="result" aria-label="Result" role="status">
          <p>Nothing has happened yet, so there is nothing to prove.</p>
        </section>
      );
    case "broken":
      return <Broken state={state} />;
    case "failed":
      return (
        <section class="result broken" aria-label="Result" role="alert">
          <h2>It couldn't be checked</h2>
          <p>{state.message}</p>
        </section>
      );
  }
}

function Fits({ state: { events, kept, head } }: { state: State & { step: "fits" } }) {
  const all = events === 1 ? "The one event fits" : `All ${events.toLocaleString()} events fit together`;
  return (
    <section class="result fits" aria-label="Result" role="status">
      <h2>
        <Icon name="shield" /> {kept ? "Nothing was changed" : "All events fit together"}
      </h2>
      {kept ? (
        <p>
          {all}, and {events === 1 ? "leads" : "lead"} to the head that this browser kept {when(kept)}: nothing up to event{" "}
          {kept.seq.toLocaleString()} was changed, removed or added since.
        </p>
      ) : (
        <p>
          {all}. This browser had kept no head until now, so it can't tell yet whether they were all
          made anew; from now on it can.
        </p>
      )}
      <HashLine head={head} />
    </section>
  );
}

function Broken({ state: { report, kept, event } }: { state: State & { step: "broken" } }) {
  const { store } = user.value!;
  const { mismatch } = report;
  const { title: titles } = event?.changes ?? {};
  const title = titleOf(
    store.tasks.value.find(({ id }) => id === event?.task_id),
    event && isErased(event) ? nameWithout(event) : undefined,
  );
  return (
    <section class="result broken" aria-label="Result" role="alert">
      <h2>{mismatch!.seq === null ? "The log doesn't fit" : `Event ${mismatch!.seq.toLocaleString()} doesn't fit`}</h2>
      <p dir="auto">{sentence(mismatch!.message)}</p>
      {event && (
        <div class="evidence">
          <p>
            What stands there now: <Sentence event={event} title={titles?.to ?? titles?.from ?? title} />,{" "}
            {momentText(event.at)}
          </p>
          <ChangeList event={event} />
        </div>
      )}
      <p>
        {beforeText(report.events)}
        {kept ? `It was compared with the head of event ${kept.seq.toLocaleString()}, kept ${when(kept)}. ` : ""}
        Download the log and the head, and show them to whoever runs this service. The kept head stays as it is.
      </p>
    </section>
  );
}

function beforeText(events: number): string {
  if (events < 2) return events ? "The event before it fits. " : "";
  return `The ${events.toLocaleString()} events before it fit together. `;
}

function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
}

function when({ kept }: KeptHead): string {
  return `on ${momentText(kept)}`;
}

function HashLine({ head }: { head: Head }) {
  return (
    <p class="hash">
      <span>Head: event {head.seq.toLocaleString()}</span>
      <code>{head.hash}</code>
    </p>
  );
}

function Kept({ proof, state }: { proof: Check; state: State }) {
  const heads = useMemo(() => proof.heads.list(), [state]);
  if (!heads.length) return null;
  return (
    <section class="kept" aria-labelledby="kept">
      <h2 id="kept">Kept in this browser</h2>
      <ol>
        {heads.map((head) => (
          <li key={head.kept}>
            <span>
              Event {head.seq.toLocaleString()}, kept {when(head)}
            </span>
            <code title={head.hash}>{head.hash.slice(0, 16)}…</code>
          </li>
        ))}
      </ol>
      <button
        type="button"
        onClick={() => save(`daybook-head-${heads[0]!.seq}.json`, headFile(heads[0]!), "application/json")}
      >
        <Icon name="down" />
        Head
      </button>
      <p class="note">
        A head that lies elsewhere proves the most: keep the file where nobody can change both it and the log.{" "}
        <code>daybook verify --export log.ndjson --head head.json</code> takes it.
      </p>
    </section>
  );
}

function headFile({ seq, hash, at }: KeptHead): string {
  return `${JSON.stringify({ seq, hash, at })}\n`;
}

function Downloads() {
  const { daybook, store } = user.value!;
  const run = async () => {
    try {
      save("daybook-log.ndjson", await download(daybook, { format: "ndjson", order: "asc" }), "application/x-ndjson");
    } catch (error) {
      store.tell(messageOf(error));
    }
  };
  return (
    <section>
      <h2>Take it with you</h2>
      <button type="button" onClick={() => void run()}>
        <Icon name="down" />
        Whole log
      </button>
    </section>
  );
}

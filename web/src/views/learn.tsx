import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { requestOf } from "../log/anatomy";
import { isErased, nameWithout } from "../log/erasure";
import { sentenceOf } from "../log/words";
import { type LastWrite, readLastWrite } from "../model/last_write";
import { messageOf } from "../model/store";
import { hrefOf } from "../route";
import { user } from "../state";

/** One write, step by step, with the values of the user's last one. */
export function Learn() {
  const { daybook, store } = user.value!;
  const write = useSignal<LastWrite | null | undefined>(undefined);
  const failure = useSignal("");
  const seq = store.event.value?.seq;
  useEffect(() => {
    const stop = new AbortController();
    readLastWrite(daybook, stop.signal).then(
      (found) => (write.value = found),
      (error: unknown) => {
        if (!stop.signal.aborted) failure.value = messageOf(error);
      },
    );
    return () => stop.abort();
  }, [daybook, seq]);
  return (
    <div class="column">
      <div class="heading">
        <h1>Learn</h1>
      </div>
      <p class="lead">
        What a write is made of: your last one, step by step. All values are real, and the hashes were computed in your
        browser just now.
      </p>
      {failure.value && <p role="alert">{failure.value}</p>}
      {write.value === null && (
        <p>
          You have written nothing yet. <a href={hrefOf("tasks")}>Add a task</a>, and come back.
        </p>
      )}
      {write.value && <Steps write={write.value} />}
    </div>
  );
}

function Steps({ write }: { write: LastWrite }) {
  const { event, previous, anatomy, before, after } = write;
  const { before: verb, after: rest } = sentenceOf(event);
  const title = after?.title ?? before?.title ?? (isErased(event) ? nameWithout(event) : "");
  const { hash: _, salt: __, idempotency_key: ___, fingerprint: ____, ...shown } = event;
  return (
    <ol class="steps">
      <Step name="Command" text="A request becomes a command. Its key makes it safe to send it again.">
        <Code name="Request">
          {requestOf(event)}
          {event.idempotency_key && `\n\nIdempotency-Key: ${event.idempotency_key}`}
        </Code>
      </Step>
      <Step name="Decide" text={decisionText(write)}>
        <p class="verdict">
          {verb} {event.type !== "UserErased" && <b dir="auto">{title}</b>} {rest}
        </p>
      </Step>
      <Step
        name="Event"
        text={`What was decided is event ${event.seq} of your log, and version ${event.version} of the task. It is never changed again.`}
      >
        <Code name="Event">{JSON.stringify(shown, null, 2)}</Code>
      </Step>
      <Step
        name="Digest"
        text="The event is hashed in two parts, so that the personal one can be erased, and the chain still holds."
      >
        {anatomy.personalText === null ? (
          <Sum formula="The hash of what was erased, which was kept in its place" inputs={[]} result={anatomy.personal} />
        ) : (
          <Sum
            formula="SHA-256(salt, data and metadata)"
            inputs={[event.salt!, anatomy.personalText]}
            result={anatomy.personal}
          />
        )}
        <Sum
          formula="SHA-256(header, the hash above)"
          inputs={[anatomy.headerText, anatomy.personal]}
          result={anatomy.digest}
        />
      </Step>
      <Step
        name="Chain"
        text="The hash before and the digest make the hash of this event. So each event holds all that came before it."
      >
        <Sum
          formula="SHA-256(hash before, digest)"
          inputs={[previous || "nothing: it is the first event", anatomy.digest]}
          result={anatomy.hash}
        />
        <p class={anatomy.hash === event.hash ? "agrees" : "differs"} role="status">
          {anatomy.hash === event.hash ? "The log has the same hash." : `The log has another hash: ${event.hash}`}
        </p>
      </Step>
      <Step
        name="Row"
        text={rowText(write)}
      >
        {after && <Code name="Task">{JSON.stringify(after, null, 2)}</Code>}
      </Step>
    </ol>
  );
}

function rowText({ event, after }: LastWrite): string {
  if (isErased(event)) {
    return "Tasks that were erased have no row. The content of their events is replaced by its hash in one transaction.";
  }
  return after
    ? "The event is folded into the task. The row that lists read is written in the same transaction."
    : "The event is folded into the task, which is gone after it: the row is deleted in the same transaction.";
}

function decisionText({ event, before }: LastWrite): string {
  const begin = "A pure function compares the command with the state:";
  if (event.type === "UserErased") return `${begin} there is something left to erase.`;
  if (event.type === "TaskErased") return `${begin} the task is deleted, so its content can be erased.`;
  if (before) return `${begin} the task at version ${before.version}. If nothing were to change, it would end here.`;
  if (event.type === "TaskCreated") return `${begin} there is no such task, so it can be made.`;
  return `${begin} the task was deleted, so it can be brought back.`;
}

function Step({ name, text, children }: { name: string; text: string; children: ComponentChildren }) {
  return (
    <li>
      <h2>{name}</h2>
      <p>{text}</p>
      {children}
    </li>
  );
}

function Code({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <pre tabIndex={0} role="region" aria-label={name} dir="auto">
      {children}
    </pre>
  );
}

function Sum({ formula, inputs, result }: { formula: string; inputs: string[]; result: string }) {
  return (
    <div class="sum">
      <p>{formula}</p>
      <ul>
        {inputs.map((input) => (
          <li dir="auto">{input}</li>
        ))}
      </ul>
      <p class="result-hash">
        <span aria-hidden="true">= </span>
        {result}
      </p>
    </div>
  );
}

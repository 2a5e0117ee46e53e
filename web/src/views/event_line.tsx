import type { AuditEvent } from "daybook-client";
import { diffWords } from "../log/diff";
import { FIELD_NAMES, sentenceOf, valueText } from "../log/words";
import { hrefOf } from "../route";

type Field = keyof AuditEvent["changes"];

/** An event in words, whose task leads to its own page. */
export function Sentence({ event, title }: { event: AuditEvent; title: string }) {
  const { before, after } = sentenceOf(event);
  return (
    <span class="sentence">
      {before}
      {event.type !== "UserErased" && (
        <>
          {" "}
          <a href={hrefOf("task", event.task_id)} dir="auto">
            {title}
          </a>
        </>
      )}
      {after && ` ${after}`}
    </span>
  );
}

/** What an event changed, field by field: texts word by word, other values before and after. Of an erasure, why it was;
 * of what was erased, that it was. */
export function ChangeList({ event }: { event: AuditEvent }) {
  if (event.erased) return <p class="note">Its content was erased for good. Its hash stays, so that the log still fits.</p>;
  if (event.reason) {
    return (
      <dl class="changes">
        <div>
          <dt>reason</dt>
          <dd dir="auto">{event.reason}</dd>
        </div>
      </dl>
    );
  }
  const fields = (Object.keys(event.changes) as Field[]).filter((field) => isShown(event, field));
  if (!fields.length) return null;
  return (
    <dl class="changes">
      {fields.map((field) => (
        <div>
          <dt>{FIELD_NAMES[field]}</dt>
          <dd dir="auto">
            <Diff field={field} from={event.changes[field]!.from} to={event.changes[field]!.to} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Leave out what the sentence has said, and what a new or deleted task lacks. */
function isShown({ type, changes }: AuditEvent, field: Field): boolean {
  const { from, to } = changes[field]!;
  if (type === "TaskToggled") return false;
  if (type === "TaskUpdated" || (type === "TaskRestored" && from !== null))
    return field !== "completed" || Object.keys(changes).length > 1;
  return field !== "title" && field !== "completed" && valueText(field, from ?? to) !== "";
}

export function Diff({ field, from, to }: { field: Field; from: unknown; to: unknown }) {
  const [before, after] = [valueText(field, from), valueText(field, to)];
  if (!before) return <ins>{after}</ins>;
  if (!after) return <del>{before}</del>;
  if (field !== "title" && field !== "description" && field !== "tags") {
    return (
      <>
        <del>{before}</del> <ins>{after}</ins>
      </>
    );
  }
  return (
    <>
      {diffWords(before, after).map(({ kind, text }) => {
        if (kind === "same") return text;
        return kind === "del" ? <del>{text}</del> : <ins>{text}</ins>;
      })}
    </>
  );
}

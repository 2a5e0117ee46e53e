import { isObject, type Json } from "./digest.js";
import { CannotVerify } from "./mismatch.js";

const FIELDS = ["title", "description", "completed", "priority", "due_date", "tags"];
const TYPES = /^(Task(Created|Updated|Toggled|Deleted|Restored|Erased)|UserErased)$/;

/** Return the changes that an event's data tell, in any form that was ever written. Throw `CannotVerify`. */
export function changesOf(type: string, data: Json): Json {
  const form = data.v;
  if (!TYPES.test(type) || !([1, 2, 3] as unknown[]).includes(form)) {
    throw new CannotVerify("unknown-event", `${type} in form ${form as string} is not known to this release`);
  }
  const found = form === 1 && !("changes" in data) ? ofTask(type, data.task) : data.changes;
  if (!isObject(found)) throw damaged(type);
  const shown: Json = {};
  for (const name of FIELDS) {
    if (!(name in found)) continue;
    const change = found[name];
    if (!(isObject(change) && "from" in change && "to" in change)) throw damaged(type);
    shown[name] = { from: change.from, to: change.to };
  }
  return shown;
}

/** Read form 1, which kept a created or deleted task as a whole. */
function ofTask(type: string, task: unknown): Json {
  const fields = Object.entries((task || {}) as Json);
  const deleted = type === "TaskDeleted";
  return Object.fromEntries(
    fields.map(([name, value]) => [name, deleted ? { from: value, to: null } : { from: null, to: value }]),
  );
}

function damaged(type: string): CannotVerify {
  return new CannotVerify("unknown-event", `the data of this ${type} are damaged`);
}

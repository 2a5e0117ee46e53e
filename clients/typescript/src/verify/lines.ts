import { encode, hexToBytes, type Json, sha256, written } from "./digest.js";
import { mismatch, type Mismatch } from "./mismatch.js";

/** An event as it stands on a line, with the digest of its content. */
export interface Line {
  record: Json & { seq: number; hash: string; user_id: string };
  digest: Uint8Array;
}

/** How the JSON of each column is written. */
type Columns = Record<string, RegExp>;

const TEXT = /^"/;
const TEXT_OR_NULL = /^("|null$)/;
const OBJECT = /^{/;
const UUID = /^"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"$/;
const NULL = /^null$/;
const ERASES = /^"(Task|User)Erased"$/;
export const NUMBER = /^[1-9]\d{0,15}$/;
export const MOMENT = /^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"$/;
export const HASH = /^"[0-9a-f]{64}"$/;

/** What stays of an event when its content is erased, in the order in which it is hashed. */
const HEADER = ["actor", "at", "id", "task_id", "type", "user_id", "version"];
const COLUMNS: Columns = {
  seq: NUMBER,
  id: UUID,
  type: TEXT,
  task_id: UUID,
  version: NUMBER,
  at: MOMENT,
  actor: TEXT,
  request_id: TEXT_OR_NULL,
  client: OBJECT,
  changes: OBJECT,
  hash: HASH,
  user_id: TEXT,
  idempotency_key: TEXT_OR_NULL,
  fingerprint: /^(null|"([0-9a-f]{2})+")$/,
  salt: /^"([0-9a-f]{2})+"$/,
  data: OBJECT,
};
const ERASURE: Columns = { ...COLUMNS, reason: TEXT_OR_NULL };
/** Those of an event whose content was erased. */
const ERASED: Columns = {
  ...COLUMNS,
  request_id: NULL,
  client: /^{"\w+":null,"\w+":null}$/,
  changes: /^{}$/,
  idempotency_key: NULL,
  fingerprint: NULL,
  salt: NULL,
  data: NULL,
  erased: /^true$/,
  personal: HASH,
};
const CLIENT: Columns = { address: TEXT_OR_NULL, agent: TEXT_OR_NULL };

/** Say if a value is written like this. */
export function fits(pattern: RegExp, value: unknown): boolean {
  return pattern.test(JSON.stringify(value));
}

/** Read a line. Return a mismatch if no export has such a line; its `seq` is null if the line has no valid one. */
export async function readLine(bytes: Uint8Array): Promise<Line | Mismatch> {
  const parsed = parse(bytes);
  if (!parsed) return mismatch("unreadable", null, "the line isn't JSON: it was damaged, or the download broke off");
  const { value, twice } = parsed;
  if (!fits(OBJECT, value)) return mismatch("unreadable", null, "the line isn't a JSON object");
  const record = value as Line["record"];
  const columns = fits(ERASES, record.type) ? ERASURE : "erased" in record ? ERASED : COLUMNS;
  const found = fault(record, columns) ?? fault(record.client as Json, CLIENT, "client.") ?? repeated(twice, columns);
  if (found) return mismatch("changed", fits(NUMBER, record.seq) ? record.seq : null, ...found);
  return { record, digest: await digest(record) };
}

type Fault = [message: string, field: string | null];

/** Find the first column that is missing, unknown or not written as it should be. */
function fault(record: Json, columns: Columns, under = ""): Fault | undefined {
  for (const name in columns) if (!(name in record)) return [`\`${under}${name}\` is missing`, under + name];
  for (const name in record) {
    if (!Object.hasOwn(columns, name)) return [`'${under}${name}' is no column that this release knows`, under + name];
  }
  for (const name in columns) {
    if (!fits(columns[name]!, record[name])) return [`\`${under}${name}\` isn't written as Daybook writes it`, under + name];
  }
  return undefined;
}

function repeated(name: string | undefined, columns: Columns): Fault | undefined {
  if (name === undefined) return undefined;
  return [`'${name}' stands in it twice`, Object.hasOwn(columns, name) ? name : null];
}

async function digest(record: Json): Promise<Uint8Array> {
  const { address, agent } = record.client as Json;
  const { request_id, idempotency_key, fingerprint, data } = record;
  const meta: Json = { request_id, client_address: address, client_agent: agent, idempotency_key, fingerprint };
  for (const name in meta) if (meta[name] === null) delete meta[name];
  const inner = record.erased
    ? hexToBytes(record.personal as string)
    : await sha256(hexToBytes(record.salt as string), encode(written({ data, meta })));
  return sha256(encode(JSON.stringify(record, HEADER)), inner);
}

const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/;

/** Parse a line; undefined if it isn't JSON. `twice` is a name that an object has twice: parsers take the last one. */
export function parse(bytes: Uint8Array): { value: unknown; twice: string | undefined } | undefined {
  try {
    const line = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(line);
    const written = JSON.stringify(value);
    if (LONE_SURROGATE.test(written)) return undefined;
    return written === line.trim() ? { value, twice: undefined } : respelt(line);
  } catch {
    return undefined;
  }
}

/** Parse a line that is spelt in another way than exports are. A number in a form that isn't Daybook's, such as 1.0,
 * becomes text, which no number is. */
function respelt(line: string): { value: unknown; twice: string | undefined } {
  const names: Set<string>[] = [];
  let twice: string | undefined;
  const marked = line.replace(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}]|-?\d[\w.+-]*/g, (token, colon: string | undefined) => {
    if (token === "{") names.push(new Set());
    else if (token === "}") names.pop();
    else if (colon) {
      const name = JSON.parse(token.slice(0, -colon.length)) as string;
      if (names.at(-1)!.has(name)) twice ??= name;
      names.at(-1)!.add(name);
    } else if (token[0] !== '"' && (token === "-0" || String(Number(token)) !== token)) return `"${token} "`;
    return token;
  });
  return { value: JSON.parse(marked), twice };
}

import { canonical, sha256, hexToBytes, concat } from "./digest.js";

export type Json = Record<string, unknown>;

/** An event as it stands on a line, with the digest of its content. */
export interface Line {
  line: number;
  seq: number;
  hash: string;
  digest: Uint8Array;
  record: Json;
}

/** A line that no export has. `seq` is null if the line has no valid one. */
export interface BadLine {
  line: number;
  seq: number | null;
  kind: "changed" | "unreadable";
  field: string | null;
  fault: string;
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const textOrNull: Check = (value) => value === null || text(value);
const object: Check = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const like =
  (pattern: RegExp): Check =>
  (value) =>
    typeof value === "string" && pattern.test(value);
const uuid = like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const hex = like(/^([0-9a-f]{2})+$/);
export const isNumber: Check = (value) => Number.isSafeInteger(value) && (value as number) > 0;
export const isMoment = like(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
export const isHash = like(/^[0-9a-f]{64}$/);

const HEADER = ["user_id", "id", "task_id", "version", "type", "at", "actor"];
const COLUMNS: Record<string, Check> = {
  seq: isNumber,
  id: uuid,
  type: text,
  task_id: uuid,
  version: isNumber,
  at: isMoment,
  actor: text,
  request_id: textOrNull,
  client: object,
  changes: object,
  hash: isHash,
  user_id: text,
  idempotency_key: textOrNull,
  fingerprint: (value) => value === null || hex(value),
  salt: hex,
  data: object,
};
const CLIENT: Record<string, Check> = { address: textOrNull, agent: textOrNull };

/** Read a line. */
export async function readLine(line: number, bytes: Uint8Array): Promise<Line | BadLine> {
  const parsed = parse(bytes);
  if (!parsed) return bad(line, "the line isn't JSON: it was damaged, or the download broke off");
  const { value, twice } = parsed;
  if (!object(value)) return bad(line, "the line isn't a JSON object");
  const record = value as Json;
  const seq = isNumber(record.seq) ? (record.seq as number) : null;
  const found = fault(record, COLUMNS) ?? fault(record.client as Json, CLIENT, "client.") ?? repeated(twice);
  if (found) return { line, seq, kind: "changed", field: found[0], fault: found[1] };
  return { line, seq: seq!, hash: record.hash as string, digest: await digest(record), record };
}

function bad(line: number, fault: string): BadLine {
  return { line, seq: null, kind: "unreadable", field: null, fault };
}

function fault(record: Json, columns: Record<string, Check>, under = ""): [string | null, string] | undefined {
  for (const name in columns) if (!Object.hasOwn(record, name)) return [under + name, `\`${under}${name}\` is missing`];
  for (const name of Object.keys(record)) {
    if (!Object.hasOwn(columns, name)) return [under + name, `'${under}${name}' is no column that this release knows`];
  }
  for (const [name, fits] of Object.entries(columns)) {
    if (!fits(record[name])) return [under + name, `\`${under}${name}\` isn't written as Daybook writes it`];
  }
  return undefined;
}

function repeated(name: string | undefined): [string | null, string] | undefined {
  if (name === undefined) return undefined;
  return [Object.hasOwn(COLUMNS, name) ? name : null, `'${name}' stands in it twice`];
}

async function digest(record: Json): Promise<Uint8Array> {
  const { address, agent } = record.client as Json;
  const { request_id, idempotency_key, fingerprint } = record;
  const all = { request_id, client_address: address, client_agent: agent, idempotency_key, fingerprint };
  const meta = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
  const header = Object.fromEntries(HEADER.map((name) => [name, record[name]]));
  const personal = await sha256(concat(hexToBytes(record.salt as string), canonical({ data: record.data, meta })));
  return sha256(concat(canonical(header), personal));
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

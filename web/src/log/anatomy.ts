import { canonical, hexToBytes, sha256 } from "daybook-client/digest";
import type { AuditEvent } from "daybook-client";

/** An event as an export has it: with all that its hash is computed from. */
export interface FullEvent extends AuditEvent {
  user_id: string;
  idempotency_key: string | null;
  fingerprint: string | null;
  /** Null, as `data`, if the content was erased. */
  salt: string | null;
  data: { v: number; restored?: { version: number; created_at: string } } | null;
  /** What is kept of an erased content: its digest. */
  personal?: string;
}

/** How an event's hash comes about. Texts are as they are hashed, hashes in hexadecimal digits. */
export interface Anatomy {
  /** Null if it was erased, and only its hash was kept. */
  personalText: string | null;
  personal: string;
  headerText: string;
  digest: string;
  hash: string;
}

/** Compute an event's hash from its content and the hash before it, step by step (docs/guides/audit.md). */
export async function anatomyOf(event: FullEvent, previous: string): Promise<Anatomy> {
  const { user_id, id, task_id, version, type, at, actor } = event;
  const header = canonical({ user_id, id, task_id, version, type, at, actor });
  const content = event.data && canonical({ data: event.data, meta: metaOf(event) });
  const personal = content ? await sha256(hexToBytes(event.salt!), content) : hexToBytes(event.personal!);
  const digest = await sha256(header, personal);
  const hash = await sha256(hexToBytes(previous), digest);
  return {
    personalText: content && text(content),
    personal: hex(personal),
    headerText: text(header),
    digest: hex(digest),
    hash: hex(hash),
  };
}

/** Return the facts about the request that an event came with. Unknown ones are left out of what is hashed. */
function metaOf({ request_id, client, idempotency_key, fingerprint }: FullEvent) {
  const all = { request_id, client_address: client.address, client_agent: client.agent, idempotency_key, fingerprint };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

/** Return the request that leads to an event: as a client sends it, as far as the event tells. */
export function requestOf({ type, user_id, task_id, changes, data, reason, erased }: FullEvent): string {
  const user = `/api/${encodeURIComponent(user_id)}`;
  const task = `${user}/tasks/${task_id}`;
  const written = (body: unknown) => (erased ? "(erased)" : JSON.stringify(body, null, 2));
  const after = Object.fromEntries(Object.entries(changes).map(([name, change]) => [name, change?.to]));
  switch (type) {
    case "TaskCreated":
      return `POST ${user}/tasks\n${written({ id: task_id, ...after })}`;
    case "TaskUpdated":
      return `PATCH ${task}\n${written(after)}`;
    case "TaskToggled":
      return `PATCH ${task}/complete\n${written(after)}`;
    case "TaskDeleted":
      return `DELETE ${task}`;
    case "TaskErased":
      return `POST ${task}/erase\n${written(reason ? { reason } : {})}`;
    case "UserErased":
      return `DELETE ${user}\n${written({ confirm: user_id, ...(reason && { reason }) })}`;
    case "TaskRestored":
      return `POST ${task}/restore\n${written({ version: data?.restored?.version })}`;
  }
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

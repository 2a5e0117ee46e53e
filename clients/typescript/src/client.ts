import createClient from "openapi-fetch";
import { newKey } from "./keys.js";
import { nextPage, type Page } from "./pages.js";
import { problemOf } from "./problems.js";
import type { components, operations, paths } from "./schema.js";
import { type SendOptions, sender } from "./send.js";
import { tokenCache, type TokenSource } from "./token.js";

type Schemas = components["schemas"];
type Query<O extends keyof operations> = NonNullable<operations[O]["parameters"]["query"]>;

export type Task = Schemas["Task"];
export type NewTask = Schemas["NewTask"];
export type TaskChanges = Schemas["TaskChanges"];
export type AuditEvent = Schemas["AuditEvent"];
export type Head = Schemas["Head"];
export type Operations = Schemas["Operations"];
export type SyncPage = Schemas["Sync"];

export interface DaybookOptions extends SendOptions {
  /** Where Daybook is, such as `https://tasks.example.com`. */
  url: string;
  /** The user of the token. */
  userId: string;
  token: TokenSource;
}

export interface ReadOptions {
  signal?: AbortSignal | undefined;
}

export interface ListOptions extends ReadOptions {
  /** `next` of the page before. */
  page?: string | undefined;
}

export interface WriteOptions extends ReadOptions {
  /** The `Idempotency-Key` of what the user did. Keep it to repeat the write later; without it, a new one is made. */
  key?: string | undefined;
  /** Write only if nothing has changed since: a task's `version`, an `ETag`, or `*`. */
  ifMatch?: number | string | undefined;
}

/** What an answer to a write says beside its body. */
export interface Written {
  /** The number of its event, of the last one for a batch; null if it changed nothing. */
  seq: number | null;
  etag: string | null;
  /** Whether the key was used before, and this is the first answer again. */
  replayed: boolean;
}

export interface Erasure {
  /** Why, such as a reference to a request; it stays in the log. Nothing personal belongs in it. */
  reason?: string;
}

export type Daybook = ReturnType<typeof createDaybook>;

/** Make a client of one user's tasks. On a server, make one for each request: it keeps its user's token. */
export function createDaybook({ url, userId, token, ...options }: DaybookOptions) {
  const tokens = tokenCache(token);
  const api = createClient<paths>({ baseUrl: url.replace(/\/+$/, ""), fetch: sender(tokens, options) });
  const open = sender(tokens, options, { stream: true });
  const user = { user_id: userId };
  const of = (task_id: string) => ({ ...user, task_id });
  const task = (call: Call<Task>) => written(call, (data) => ({ task: ofDaybook(data) }));

  return {
    userId,
    /** The routes as they are, typed from the OpenAPI document (openapi-fetch). Problems aren't thrown. */
    api,
    /** Send a request whose answer is read as it comes. */
    open,

    /** Get a page of tasks: up to 1,000. `pages` and `all` read on. */
    listTasks: (query: Query<"listTasks"> = {}, options: ListOptions = {}) =>
      page(api.GET("/api/{user_id}/tasks", read(user, query, options))),
    /** Get a task as it is, or was. */
    getTask: (id: string, query: Query<"getTask"> = {}, options: ReadOptions = {}) =>
      body(api.GET("/api/{user_id}/tasks/{task_id}", read(of(id), query, options))),
    /** Count the tasks. */
    countTasks: (query: Query<"countTasks"> = {}, options: ReadOptions = {}) =>
      body(api.GET("/api/{user_id}/tasks/stats", read(user, query, options))),
    /** Get the tasks that have changed since a token. `sync` keeps a copy with it. */
    getChanges: (query: Query<"getChanges"> = {}, options: ReadOptions = {}) =>
      body(api.GET("/api/{user_id}/tasks/changes", read(user, query, options))),

    /** Create a task. */
    createTask: (body: NewTask, options: WriteOptions = {}) =>
      task(api.POST("/api/{user_id}/tasks", { ...write(user, options), body })),
    /** Change the given fields; the others stay. */
    updateTask: (id: string, body: TaskChanges, options: WriteOptions = {}) =>
      task(api.PATCH("/api/{user_id}/tasks/{task_id}", { ...write(of(id), options), body })),
    /** Complete a task, or open it again. */
    completeTask: (id: string, completed = true, options: WriteOptions = {}) =>
      task(api.PATCH("/api/{user_id}/tasks/{task_id}/complete", { ...write(of(id), options), body: { completed } })),
    /** Delete a task. `restoreTask` brings it back. */
    deleteTask: (id: string, options: WriteOptions = {}) =>
      written(api.DELETE("/api/{user_id}/tasks/{task_id}", write(of(id), options)), nothing),
    /** Bring a deleted task back, or put a task back to what it was at `version`. */
    restoreTask: (id: string, body: Schemas["Restoration"] = {}, options: WriteOptions = {}) =>
      task(api.POST("/api/{user_id}/tasks/{task_id}/restore", { ...write(of(id), options), body })),
    /** Erase a deleted task's content for good. The log keeps that it happened, and the hashes. */
    eraseTask: (id: string, body: Erasure = {}, options: WriteOptions = {}) =>
      written(api.POST("/api/{user_id}/tasks/{task_id}/erase", { ...write(of(id), options), body }), nothing),
    /** Erase the content of all tasks for good, deleted or not. `confirm` is the user's id. */
    eraseUser: (body: Erasure & { confirm: string }, options: WriteOptions = {}) =>
      written(api.DELETE("/api/{user_id}", { ...write(user, options), body }), nothing),
    /** Carry out up to 100 operations in one transaction. */
    batch: (body: Operations, options: WriteOptions = {}) =>
      written(api.POST("/api/{user_id}/batch", { ...write(user, options), body }), (results) => results),
    /** Take back the last event, or that with the given `seq`. `task` is null if the task is gone now. */
    undo: (body: Schemas["Undo"] = {}, options: WriteOptions = {}) =>
      written(api.POST("/api/{user_id}/undo", { ...write(user, options), body }), (data) => ({ task: data ?? null })),
    /** Put all tasks back to a moment. `etag` of a dry run goes into `ifMatch` of the restoration. */
    restoreAll: (body: Schemas["RestorationOfAll"], options: WriteOptions = {}) =>
      written(api.POST("/api/{user_id}/restore", { ...write(user, options), body }), (changes) => changes),

    /** Get a page of the user's events, newest first. */
    listEvents: (query: Omit<Query<"listEvents">, "format"> = {}, options: ListOptions = {}) =>
      page(api.GET("/api/{user_id}/audit", read(user, query, options)) as Call<AuditEvent[]>),
    /** Get a page of a task's events, oldest first. */
    getHistory: (id: string, query: Query<"getHistory"> = {}, options: ListOptions = {}) =>
      page(api.GET("/api/{user_id}/tasks/{task_id}/history", read(of(id), query, options))),
    /** Get the number and hash of the last event. Keep it, to prove later that nothing before it was rewritten. */
    getHead: (options: ReadOptions = {}) =>
      body(api.GET("/api/{user_id}/audit/head", read(user, {} as never, options))),
    /** Get the log as NDJSON, for `verify`. */
    exportLog: (query: Pick<Query<"listEvents">, "after"> = {}, options: ReadOptions = {}) => {
      const all = { ...query, format: "ndjson", order: "asc" } as const;
      const call = api.GET("/api/{user_id}/audit", { ...read(user, all, options), fetch: open, parseAs: "text" });
      return body(call as Call<string>);
    },
  };
}

/** Tell that a write leaves no task. */
const nothing = () => ({ task: null });

type Call<T> = Promise<{ data?: T; error?: unknown; response: Response }>;

/** Return the body of an answer, and the answer. Throw the `DaybookError` of a refusal. */
export async function answered<T>(call: Call<T>): Promise<{ data: T; response: Response }> {
  const { data, error, response } = await call;
  if (!response.ok) throw problemOf(response, error);
  return { data: data as T, response };
}

async function body<T>(call: Call<T>): Promise<T> {
  return (await answered(call)).data;
}

async function written<T, R>(call: Call<T>, read: (data: T) => R): Promise<R & Written> {
  const { data, response } = await answered(call);
  const seq = response.headers.get("Daybook-Seq");
  return {
    ...read(data),
    seq: seq === null ? null : Number(seq),
    etag: response.headers.get("ETag"),
    replayed: response.headers.has("Idempotency-Replayed"),
  };
}

/** Return the task of an answer. Throw if it is none, since something else than Daybook has answered with 200. */
function ofDaybook(task: Task): Task {
  if (!task?.version) throw new SyntaxError("The answer isn't Daybook's.");
  return task;
}

async function page<T>(call: Call<T[]>): Promise<Page<T>> {
  const { data, response } = await answered(call);
  return { items: data, next: nextPage(response.headers), etag: response.headers.get("ETag") };
}

function read<P, Q>(path: P, query: Q, { signal, page }: ListOptions) {
  const params = { path, query };
  return { params, signal: signal ?? null, ...(page !== undefined && { querySerializer: () => page }) };
}

function write<P>(path: P, { key = newKey(), ifMatch, signal }: WriteOptions) {
  const tag = typeof ifMatch === "number" ? `"${ifMatch}"` : ifMatch;
  const header = { "Idempotency-Key": key, ...(tag !== undefined && { "If-Match": tag }) };
  return { params: { path, header }, signal: signal ?? null };
}

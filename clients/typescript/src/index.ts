export {
  type AuditEvent,
  createDaybook,
  type Daybook,
  type DaybookOptions,
  type Erasure,
  type Head,
  type ListOptions,
  type NewTask,
  type Operations,
  type ReadOptions,
  type SyncPage,
  type Task,
  type TaskChanges,
  type WriteOptions,
  type Written,
} from "./client.js";
export { newKey } from "./keys.js";
export { all, type Page, pages } from "./pages.js";
export {
  DaybookError,
  type DaybookProblem,
  isProblem,
  type OtherProblem,
  problemOf,
  type ProblemType,
} from "./problems.js";
export { isRefusal, isTransient, type RetryOptions } from "./retry.js";
export type { components, operations, paths } from "./schema.js";
export { MemoryStore } from "./memory_store.js";
export { stream, type StreamedEvent, type StreamOptions } from "./stream.js";
export { pull, sync, type SyncOptions, type SyncStore } from "./sync.js";
export { CannotVerify, type Kind, type Mismatch, type Report, verify, type VerifyOptions } from "./verify/index.js";
export type { TokenSource } from "./token.js";

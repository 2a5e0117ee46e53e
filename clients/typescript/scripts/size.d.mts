/** Measure what apps import, in bytes. */
export function sizes(): Promise<Record<string, number>>;

export type Json = Record<string, unknown>;

/** Write JSON as it is hashed (RFC 8785): sorted keys, no spaces. */
export function canonical(value: unknown): Uint8Array {
  return encode(written(value));
}

/** Say if a value is an object, or an array. */
export function isObject(value: unknown): value is Json {
  return Object(value) === value;
}

/** Return a text as UTF-8. */
export function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Write JSON as `canonical` does, as text. */
export function written(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(written).join()}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${written(value[name])}`).join()}}`;
}

/** Compute SHA-256 over two pieces, one after the other. */
export async function sha256(first: Uint8Array, second: Uint8Array): Promise<Uint8Array> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", both));
}

export function hexToBytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

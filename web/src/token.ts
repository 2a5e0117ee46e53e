/** The user that a token speaks for. When it ends, the service says: the browser's clock may be wrong. */
export interface Claims {
  userId: string;
}

/** Read a token's claims, without verifying it: only the service can. Return null if it is no token. */
export function readClaims(token: string, userClaim: string): Claims | null {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (each) => each.charCodeAt(0));
    const claims: unknown = JSON.parse(withNumbersAsText(new TextDecoder().decode(bytes)));
    const userId = named(claims, userClaim) ?? userClaim.split(".").reduce(named, claims);
    return typeof userId === "string" && USER_ID.test(userId) ? { userId } : null;
  } catch {
    return null; // whatever it is, it is no token
  }
}

/** Users' ids, as the service has them (config/settings.py). */
const USER_ID = /^(?!\.\.?$)[^/\0\ud800-\udfff]{1,255}$/u;

function named(from: unknown, name: string): unknown {
  const isObject = typeof from === "object" && from !== null && !Array.isArray(from);
  return isObject && Object.hasOwn(from, name) ? (from as Record<string, unknown>)[name] : null;
}

/** Put JSON's whole numbers as texts, since a user may have one as their id, of more digits than JavaScript's have.
 * Others become null: no user has one. */
function withNumbersAsText(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (part) => {
    if (part.startsWith('"')) return part;
    return /^-?\d+$/.test(part) ? `"${BigInt(part)}"` : "null";
  });
}

/** What a fragment says that signing in has led back with. */
export type SignIn = { token: string } | { refused: "no-token" | "other-state" };

/** Read the fragment that signing in leads back with; null if it is another one. If `state` isn't undefined, the
 * fragment must have it: else somebody could lead the user here with a token of their own. */
export function readFragment(fragment: string, state: string | null | undefined): SignIn | null {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const token = given.get("token");
  if (token === null) return null;
  if (state !== undefined && (!state || given.get("state") !== state)) return { refused: "other-state" };
  return token ? { token } : { refused: "no-token" };
}

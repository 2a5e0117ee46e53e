import { signal } from "@preact/signals";
import { newKey } from "daybook-client";
import { readConfig } from "./config";
import { type Claims, readClaims, readFragment } from "./token";

const TOKEN = "daybook.token";
const STATE = "daybook.state";
const ROUTE = "daybook.route";

export interface Session extends Claims {
  token: string;
}

export const config = readConfig(document);

/** Who is signed in in this tab; null if nobody is. */
export const session = signal<Session | null>(null);

/** Why nobody is signed in, if it isn't that nobody was; a sentence. */
export const notice = signal("");

/** Sign in with a token from the fragment, else with the tab's own. The fragment is taken out of the address and of the
 * tab's history before anything else happens. */
export function begin(): void {
  takeFragment();
  if (!session.value) {
    const kept = sessionStorage.getItem(TOKEN);
    if (kept) signIn(kept);
  }
  addEventListener("hashchange", takeFragment);
}

function takeFragment(): void {
  const state = config.loginUrl ? sessionStorage.getItem(STATE) : undefined;
  const found = readFragment(location.hash, state);
  if (!found) return;
  history.replaceState(null, "", sessionStorage.getItem(ROUTE) || "#/tasks"); // relative: `//ui/` would be a host
  sessionStorage.removeItem(STATE);
  sessionStorage.removeItem(ROUTE);
  if ("token" in found) signIn(found.token);
  else notice.value = "That link didn't come from here, so it wasn't followed. Sign in again.";
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Sign in with a token. Return false, and say why in `notice`, if it is none. */
export function signIn(token: string): boolean {
  const claims = readClaims(token.trim(), config.userClaim);
  if (!claims) notice.value = "That isn't a whole token. Copy the link once more, to its end.";
  else {
    sessionStorage.setItem(TOKEN, token.trim());
    notice.value = "";
    session.value = { ...claims, token: token.trim() };
    return true;
  }
  sessionStorage.removeItem(TOKEN);
  return false;
}

/** Forget the token, since the user wants to, or since the service refuses it. */
export function signOut(why = ""): void {
  sessionStorage.removeItem(TOKEN);
  notice.value = why;
  session.value = null;
}

/** Go to the operator's page, which comes back with a token and this tab's state. */
export function goToLogin(loginUrl: string): void {
  const state = newKey();
  sessionStorage.setItem(STATE, state);
  sessionStorage.setItem(ROUTE, location.hash);
  const url = new URL(loginUrl);
  url.searchParams.set("return_to", `${location.origin}${config.base}/ui/`); // as the operator knows it, whatever was typed
  url.searchParams.set("state", state);
  location.assign(url);
}

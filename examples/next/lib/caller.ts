import "server-only";
import { auth } from "./auth";

export interface Caller {
  userId: string;
  name: string;
  /** Holds for 15 minutes. It is for this request alone: a token that is kept would serve the next visitor. */
  token: string;
}

/** Find out who sends the request, by its cookie. Return null if nobody is signed in. */
export async function getCaller(headers: Headers): Promise<Caller | null> {
  const session = await auth.api.getSession({ headers });
  if (!session) return null;
  const { token } = await auth.api.getToken({ headers });
  return { userId: session.user.id, name: session.user.name, token };
}

import { SignJWT } from "jose";
import { headers } from "next/headers";
import { auth } from "@/lib/auth";

/** Answer with a token of the session's user. Put this into `app/api/token/route.ts`. */
export async function GET(): Promise<Response> {
  const secret = process.env.JWT_SECRET; // openssl rand -base64 48
  if (!secret) throw new Error("JWT_SECRET isn't set.");
  const session = await auth.api.getSession({ headers: await headers() });
  if (!session) return Response.json({ error: "Please sign in." }, { status: 401 });
  const token = await new SignJWT()
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(session.user.id)
    .setExpirationTime("15m")
    .sign(new TextEncoder().encode(secret));
  return Response.json({ token });
}

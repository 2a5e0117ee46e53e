import { createHmac, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { onTestFinished, inject } from "vitest";
import { createDaybook, type Daybook, type DaybookOptions } from "daybook-client";
import { SECRET } from "./service.js";

const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Sign a token for the user. */
export function tokenOf(user: string, seconds = 3600): string {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${base64({ alg: "HS256", typ: "JWT" })}.${base64({ sub: user, exp })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Make a client of a new user, straight to the service unless a URL is given. */
export function client(options: Partial<DaybookOptions> = {}): Daybook {
  const userId = options.userId ?? `user-${randomUUID()}`;
  return createDaybook({ url: inject("url"), userId, token: tokenOf(userId), ...options });
}

/** Make a client whose requests are answered by a function, without a network. */
export function answering(
  answer: (request: Request) => Response | Promise<Response>,
  options: Partial<DaybookOptions> = {},
) {
  const seen: Request[] = [];
  const fetch = async (input: RequestInfo | URL, init?: RequestInit) => {
    const request = new Request(input, init);
    seen.push(request);
    return answer(request);
  };
  return { seen, daybook: client({ url: "https://daybook.test/", userId: "ann", token: "t", fetch, ...options }) };
}

/** Answer with a problem. */
export function problem(type: string, status: number, headers: Record<string, string> = {}): Response {
  const detail = `It is ${type}.`;
  return Response.json({ type: `/problems/${type}`, status, title: type, detail }, { status, headers });
}

export function until(condition: () => unknown | Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const poll = async () => ((await condition()) ? resolve() : setTimeout(poll, 5));
    void poll();
  });
}

/** What a proxy does to a request: `cut` closes the connection once the service has answered, `part` after half of the
 * answer, `busy` answers 503 and passes nothing on, `twice` sends it a second time, `slow` holds the answer back. */
export type Fault = "pass" | "cut" | "part" | "busy" | "twice" | "slow";

/** A proxy before the service that does what the function says to each request. */
export async function proxy(fault: (message: IncomingMessage) => Fault): Promise<{ url: string; cut(): void }> {
  const server: Server = createServer((message, answer) => {
    const chunks: Buffer[] = [];
    message.on("data", (chunk: Buffer) => chunks.push(chunk));
    message.on("end", () => void pass(fault(message), message, Buffer.concat(chunks), answer));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}`, cut: () => server.closeAllConnections() };
}

async function pass(kind: Fault, message: IncomingMessage, body: Buffer, answer: ServerResponse): Promise<void> {
  if (kind === "busy") {
    answer.writeHead(503, { "Retry-After": "0", "Content-Type": "application/problem+json" });
    answer.end(JSON.stringify({ type: "/problems/overloaded", status: 503, detail: "Busy." }));
    return;
  }
  if (kind === "twice") void forward(message, body).then((first) => first.resume());
  const upstream = await forward(message, body);
  answer.on("close", () => upstream.destroy());
  if (kind === "slow") await new Promise((resolve) => setTimeout(resolve, 600));
  if (kind === "cut") {
    await new Promise((resolve) => upstream.resume().on("end", resolve));
    message.socket.destroy();
    return;
  }
  answer.writeHead(upstream.statusCode!, upstream.headers);
  if (kind === "part") {
    answer.flushHeaders();
    upstream.once("data", (chunk: Buffer) => answer.write(chunk.subarray(0, chunk.length / 2), () => answer.destroy()));
    upstream.once("end", () => answer.destroy());
    return;
  }
  upstream.pipe(answer);
}

function forward(message: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
  const { method, url, headers } = message;
  return new Promise((resolve, reject) => {
    request(inject("url") + url, { method: method!, headers, agent: false }, resolve)
      .on("error", reject)
      .end(body);
  });
}

/** Read all events of the user. */
export async function eventsOf(daybook: Daybook) {
  return (await daybook.listEvents({ order: "asc", limit: 1000 })).items;
}

/** Return numbers from 0 up to 1, the same ones for the same seed. */
export function lots(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

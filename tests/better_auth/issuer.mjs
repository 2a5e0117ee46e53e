// Better Auth as a frontend would run it, several times over: one instance for each set-up that the tests ask about.
// Prints one line of JSON once it listens: the URL of each. Ends when its standard input does.

import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { bearer, jwt, organization } from "better-auth/plugins";
import { listOf } from "../../examples/next/alternatives/team.js";

const secret = process.env.BETTER_AUTH_SECRET;

function instance(baseURL, basePath, { plugins, session } = {}) {
  const tables = { user: [], session: [], account: [], verification: [], jwks: [] };
  Object.assign(tables, { organization: [], member: [], invitation: [] });
  return betterAuth({
    baseURL,
    basePath,
    secret,
    session,
    plugins,
    database: memoryAdapter(tables),
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
  });
}

const signing = (alg) => ({ plugins: [jwt({ jwks: { keyPairConfig: { alg } } })] });

// By where Better Auth is mounted; the first is where it is unless told otherwise.
const setups = {
  "/api/auth": { plugins: [jwt(), bearer()] }, // EdDSA
  "/es256": signing("ES256"),
  "/es512": signing("ES512"),
  "/ps256": signing("PS256"),
  "/rs256": signing("RS256"),
  "/rotating": { plugins: [jwt({ jwks: { rotationInterval: 1, gracePeriod: 3600 } })] }, // seconds
  "/team": {
    plugins: [
      organization(),
      jwt({ jwt: { definePayload: async (who) => ({ list: await listOf(instances["/team"], who) }) } }),
    ],
  },
  "/cookie": { session: { cookieCache: { enabled: true, strategy: "jwt" } } },
};

const server = createServer((request, response) => {
  const mounted = Object.keys(setups).find((path) => request.url.startsWith(`${path}/`));
  if (mounted) handlers[mounted](request, response);
  else response.writeHead(404).end();
});
const handlers = {};
const instances = {};

server.listen(0, "127.0.0.1", () => {
  const baseURL = `http://127.0.0.1:${server.address().port}`;
  for (const [path, setup] of Object.entries(setups)) {
    instances[path] = instance(baseURL, path, setup);
    handlers[path] = toNodeHandler(instances[path]);
  }
  console.log(JSON.stringify({ url: baseURL }));
});

process.stdin.resume().on("end", () => process.exit(0));

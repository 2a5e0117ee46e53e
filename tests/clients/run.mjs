// node run.mjs CLIENT BASE USER TOKEN: run a client's scenario against a running service; status 0 if all of it holds.

import assert from "node:assert/strict";

const [client, base, user, token] = process.argv.slice(2);
const { scenario } = await import(`./${client}.mjs`);

async function rejects(call, expected) {
  const error = await call().then(
    () => assert.fail("it should have been refused"),
    (reason) => reason,
  );
  if (typeof expected === "string") assert.equal(error.message, expected);
  else expected(error);
}

await scenario({
  base,
  api: (create) => create(base, user, token),
  ok: assert.ok,
  equal: assert.deepEqual,
  rejects,
});

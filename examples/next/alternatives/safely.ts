/** Send a write until it is answered. `key`: one for each thing that the user does, for all tries, also later ones. */
export async function safely(
  write: (headers: { "Idempotency-Key": string }) => Promise<Response>,
  key: string = crypto.randomUUID(),
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const answer = await write({ "Idempotency-Key": key }).catch((error: unknown) => {
      if (attempt === 6) throw error; // the network: nobody knows whether the write arrived
    });
    if (answer && (attempt === 6 || answer.status !== 503)) return answer;
    await new Promise((done) => setTimeout(done, 2 ** attempt * 250 * (1 + Math.random())));
  }
}

/** Create a task, once. */
export async function createTask(url: string, userId: string, token: string, title: string): Promise<unknown> {
  const answer = await safely((headers) =>
    fetch(`${url}/api/${encodeURIComponent(userId)}/tasks`, {
      method: "POST",
      headers: { ...headers, Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ title }),
    }),
  );
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

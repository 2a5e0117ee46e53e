// A store with an offline queue: each intention has a key that survives a reload, is sent until there is an answer, and
// carries the version that was seen. A monitor asks by HEAD whether the service is there.

export class Store {
  constructor(base, userId, token) {
    this.base = base;
    this.tasks = `${base}/api/${userId}/tasks`;
    this.headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    this.queue = [];
  }

  online = async () => (await fetch(`${this.base}/health`, { method: "HEAD" })).ok;

  intend(method, path, body, version) {
    const intention = { key: crypto.randomUUID(), method, path, body, version };
    this.queue.push(intention);
    return intention;
  }

  /** As from a database in the browser: the same content, its members in another order. */
  reload() {
    const reordered = (body) => body && Object.fromEntries(Object.entries(body).reverse());
    const stored = JSON.parse(JSON.stringify(this.queue));
    this.queue = stored.map((each) => ({ ...each, path: each.path.toUpperCase(), body: reordered(each.body) }));
  }

  async send({ key, method, path, body, version }) {
    const headers = { ...this.headers, "Idempotency-Key": key };
    if (version) headers["If-Match"] = `"${version}"`;
    const text = body && JSON.stringify(body, null, 2);
    const response = await fetch(this.tasks + path, { method, headers, body: text });
    const problem = response.status === 204 ? null : await response.json();
    return { status: response.status, body: problem, replayed: response.headers.has("Idempotency-Replayed") };
  }
}

export async function scenario({ api, ok, equal }) {
  const store = api((...who) => new Store(...who));
  ok(await store.online());
  const creation = store.intend("POST", "", { title: "Water the plants", description: "All of them" });
  const created = await store.send(creation);
  equal(created.status, 201);
  const { id, version } = created.body;
  const change = store.intend("PUT", `/${id}`, { title: "Water the roses", completed: true }, version);
  const changed = await store.send(change);
  equal([changed.status, changed.body.version], [200, 2]);
  store.reload();
  for (const [intention, answer] of [[store.queue[0], created], [store.queue[1], changed]]) {
    equal(await store.send(intention), { ...answer, replayed: true });
  }
  const stale = store.intend("PATCH", `/${id}`, { title: "Water the lawn" }, version);
  equal((await store.send(stale)).status, 412);
  const other = await store.send({ ...creation, body: { title: "Something else" } });
  equal([other.status, other.body.type], [422, "/problems/idempotency-key-reused"]);
  const list = await fetch(store.tasks, { method: "HEAD", headers: store.headers });
  equal([list.status, await list.text()], [200, ""]);
  ok(/^"2-[0-9a-f]{16}"$/.test(list.headers.get("etag")));
}

// A table with clickable columns: two ways to name an order, pages by number, and a filter for each column.

export class Table {
  constructor(base, userId, token) {
    this.url = `${base}/api/${userId}/tasks`;
    this.headers = { Authorization: `Bearer ${token}` };
  }

  async rows(query) {
    const response = await fetch(`${this.url}?${query}`, { headers: this.headers });
    const rows = await response.json();
    if (!response.ok) throw new Error(rows.error);
    return rows.map((row) => row.title);
  }

  async add(row) {
    const headers = { ...this.headers, "Content-Type": "application/json" };
    const response = await fetch(this.url, { method: "POST", headers, body: JSON.stringify(row) });
    return response.json();
  }
}

export async function scenario({ api, equal, rejects }) {
  const table = api((...who) => new Table(...who));
  await table.add({ title: "Pay rent", priority: "HIGH", due_date: "2026-12-01", tags: ["home", "money"] });
  await table.add({ title: "Call Bob", priority: "low", due_date: "2026-11-30T09:00:00+01:00", tags: ["phone"] });
  await table.add({ title: "Buy milk", priority: "medium", due_date: "2026-12-24", tags: ["home"], completed: true });
  await table.add({ title: "Read", priority: null, due_date: null, tags: [] });

  equal(await table.rows("sort=priority"), ["Pay rent", "Buy milk", "Call Bob", "Read"]);
  equal(await table.rows("sort=priority&order=asc"), ["Call Bob", "Buy milk", "Pay rent", "Read"]);
  const byDate = "sort_by=due_date&sort_order=asc&page_size=2";
  equal(await table.rows(`${byDate}&page=1`), ["Call Bob", "Pay rent"]);
  equal(await table.rows(`${byDate}&page=2`), ["Buy milk", "Read"]);
  equal(await table.rows("priority=High&status=pending&search="), ["Pay rent"]);
  equal(await table.rows("tag=home&sort_by=title&sort_order=asc"), ["Buy milk", "Pay rent"]);
  equal(await table.rows("search=phone"), ["Call Bob"]);
  const week = "due_after=2026-11-30&due_before=2026-12-07&sort=due_date";
  equal(await table.rows(week), ["Call Bob", "Pay rent"]);
  await rejects(() => table.rows("priority=urgent"), (error) => equal(error.message.length > 0, true));
  const stats = await (await fetch(`${table.url}/stats`, { headers: table.headers })).json();
  equal([stats.total, stats.pending, stats.by_priority.none, stats.by_tag.home], [4, 3, 1, 2]);
}

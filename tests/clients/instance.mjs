// A client with an instance and parameters, as with axios: `params` with empty values, `{}` in place of no body, the
// error's text under `message`, pages by number.

class HttpError extends Error {
  constructor(response, data) {
    super(`Request failed with status code ${response.status}`);
    this.response = { status: response.status, data, headers: response.headers };
  }
}

export class TaskService {
  constructor(base, userId, token) {
    this.root = `${base}/api//${userId}`;
    this.headers = { Authorization: `Bearer ${token}`, Accept: "application/json, text/plain, */*" };
  }

  async #send(method, path, { data, params } = {}) {
    const query = params ? `?${new URLSearchParams(params)}` : "";
    const body = data === undefined ? undefined : JSON.stringify(data);
    const headers = body === undefined ? this.headers : { ...this.headers, "Content-Type": "application/json" };
    const response = await fetch(`${this.root}${path}${query}`, { method, headers, body });
    const text = await response.text();
    const answer = text ? JSON.parse(text) : null;
    if (!response.ok) throw new HttpError(response, answer);
    return { data: answer, status: response.status, headers: response.headers };
  }

  list = (params) => this.#send("GET", "/tasks", { params });
  create = (data) => this.#send("POST", "/tasks", { data });
  patch = (id, data) => this.#send("PATCH", `/tasks/${id}`, { data });
  toggle = (id) => this.#send("PATCH", `/tasks/${id}/complete`, { data: {} });
  setCompleted = (id, completed) => this.#send("PATCH", `/tasks/${id}/complete`, { params: { completed } });
  setDone = (id, done) => this.#send("PATCH", `/tasks/${id}/complete`, { data: { done } });
  remove = (id) => this.#send("DELETE", `/tasks/${id}`);
}

export async function scenario({ api, base, ok, equal, rejects }) {
  const tasks = api((...who) => new TaskService(...who));
  const made = [];
  for (let number = 1; number <= 5; number++) made.push((await tasks.create({ title: `Task ${number}` })).data);
  const params = { search: "", status: "", sort_by: "title", sort_order: "desc", page: 2, per_page: 2 };
  const page = await tasks.list(params);
  equal(page.data.map((task) => task.title), ["Task 3", "Task 2"]);
  const next = /<([^>]+)>; rel="next"/.exec(page.headers.get("link"))[1];
  const rest = await fetch(base + next, { headers: tasks.headers });
  equal((await rest.json()).map((task) => task.title), ["Task 1"]);
  for (const [number, day] of [["5", "01"], ["4", "31"], ["2", "24"]]) {
    const due = `2026-12-${day}`;
    equal((await tasks.patch(made[number - 1].id, { due_date: due })).data.due_date, due);
  }
  const byDate = { priority: "", sort_by: "due_date", sort_order: "asc", page: 1, per_page: 3 };
  equal((await tasks.list(byDate)).data.map((task) => task.title), ["Task 5", "Task 2", "Task 4"]);
  equal((await tasks.list({ ...byDate, page: 2 })).data.map((task) => task.due_date), [null, null]);
  const first = made[0].id;
  ok((await tasks.toggle(first)).data.completed);
  ok((await tasks.setCompleted(first, true)).data.completed);
  await rejects(() => tasks.setDone(first, true), (error) => {
    equal(error.response.status, 422);
    ok(error.response.data.hint.includes("completed"));
  });
  ok((await tasks.list({ completed: "true" })).data.some((task) => task.id === first));
  await rejects(() => tasks.patch(first, { title: "\u200b" }), (error) => {
    equal(error.response.data.message, "Title must hold something visible.");
  });
  equal((await tasks.remove(first)).status, 204);
  await rejects(() => tasks.toggle(first), (error) => equal(error.response.data.message, "Task not found."));
}

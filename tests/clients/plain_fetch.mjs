// A module of functions over fetch, as starters for Next.js have it: one error text, `detail`, and forms that send
// every field they know.

export function createApi(base, userId, token) {
  async function request(path, options = {}) {
    const response = await fetch(`${base}/api/${userId}${path}`, {
      ...options,
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}`, ...options.headers },
    });
    if (!response.ok) {
      const error = await response.json().catch(() => ({}));
      throw new Error(error.detail || "Something went wrong");
    }
    return response.status === 204 ? null : response.json();
  }

  return {
    getTasks: ({ status = "", sort = "created" } = {}) => request(`/tasks?status=${status}&sort=${sort}`),
    getTask: (id) => request(`/tasks/${id}`),
    createTask: (task) => request("/tasks/", { method: "POST", body: JSON.stringify(task) }),
    updateTask: (id, task) => request(`/tasks/${id}/`, { method: "PUT", body: JSON.stringify(task) }),
    toggleTask: (id) => request(`/tasks/${id}/complete`, { method: "PATCH" }),
    deleteTask: (id) => request(`/tasks/${id}`, { method: "DELETE" }),
  };
}

export async function scenario({ api, ok, equal, rejects }) {
  const tasks = api(createApi);
  equal(await tasks.getTasks(), []);
  const milk = await tasks.createTask({ title: "Buy milk", description: "", completed: false, dueDate: null });
  const bread = await tasks.createTask({ title: "Bake bread" });
  equal((await tasks.getTasks()).map((task) => task.id), [bread.id, milk.id]);
  equal((await tasks.getTasks({ sort: "name" })).map((task) => task.id), [bread.id, milk.id]);
  ok((await tasks.toggleTask(milk.id)).completed);
  equal((await tasks.getTasks({ status: "done" })).map((task) => task.id), [milk.id]);
  equal((await tasks.updateTask(milk.id, { ...milk, title: "Buy oat milk" })).title, "Buy oat milk");
  const form = { title: "Call Ann", description: "", priority: "High", due_date: "", tags: ["phone", "work"] };
  const call = await tasks.createTask(form);
  equal([call.priority, call.due_date, call.tags], ["high", null, ["phone", "work"]]);
  const saved = await tasks.updateTask(call.id, { ...call, title: "Call Ann back", tags: ["phone"] });
  equal([saved.priority, saved.tags, saved.title], ["high", ["phone"], "Call Ann back"]);
  equal((await tasks.getTasks({ sort: "priority" })).map((task) => task.id), [call.id, bread.id, milk.id].sort((a, b) =>
    a === call.id ? -1 : b === call.id ? 1 : a < b ? 1 : -1));
  await tasks.deleteTask(call.id);
  await rejects(() => tasks.createTask({ title: "" }), "Title must not be empty.");
  await rejects(() => tasks.getTask(99999), "Task not found.");
  equal(await tasks.deleteTask(milk.id), null);
  await rejects(() => tasks.getTask(milk.id), "Task not found.");
}

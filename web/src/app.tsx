import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { nameOf } from "./model/changes";
import { hrefOf, route, type Route } from "./route";
import { session } from "./session";
import { leave, user } from "./state";
import { useKeys } from "./ui/keys";
import { History } from "./views/history";
import { Learn } from "./views/learn";
import { Proof } from "./views/proof";
import { Shortcuts } from "./views/shortcuts";
import { SignIn } from "./views/sign_in";
import { SignOutDialog } from "./views/sign_out_dialog";
import { TaskPage } from "./views/task_page";
import { Tasks } from "./views/tasks";
import { Time } from "./views/time";
import { Toasts } from "./views/toasts";

const LINKS: [Route["view"], string][] = [
  ["tasks", "Tasks"],
  ["history", "History"],
  ["time", "Time"],
  ["proof", "Proof"],
  ["learn", "Learn"],
];
const TITLES: Record<Route["view"], string> = {
  tasks: "Tasks",
  history: "History",
  task: "A task",
  time: "Time",
  proof: "Proof",
  learn: "Learn",
};

export function App() {
  const shortcuts = useSignal(false);
  const leaving = useSignal(false);
  const main = useRef<HTMLElement>(null);
  const { view } = route.value;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${TITLES[view]} · Daybook`;
    if (!first.current) main.current?.focus({ preventScroll: true });
    if (!first.current) scrollTo(0, 0);
    first.current = false;
  }, [view, route.value.id]);
  useKeys({ "?": () => (shortcuts.value = true) });
  useEffect(() => {
    if (!user.value) leaving.value = false;
  }, [user.value]);
  if (!user.value) return <SignIn />;
  const { store } = user.value;
  const signOut = () => (store.pending.value.length ? (leaving.value = true) : leave());
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to the content
      </button>
      <header class="bar">
        <div class="bar-inner">
          <span class="brand">Daybook</span>
          <nav aria-label="Views">
            {LINKS.map(([name, text]) => (
              <a href={hrefOf(name)} aria-current={name === view ? "page" : undefined}>
                {text}
              </a>
            ))}
          </nav>
          <div class="who">
            <bdi class="user">{store.userId}</bdi>
            <button
              type="button"
              class="quiet"
              onClick={() => (shortcuts.value = true)}
              aria-label="Keyboard shortcuts"
            >
              ?
            </button>
            <button type="button" class="quiet" onClick={signOut}>
              Sign out
            </button>
          </div>
        </div>
        <Connection />
      </header>
      <main ref={main} tabIndex={-1} aria-label={TITLES[view]}>
        <View view={view} id={route.value.id} />
      </main>
      <Toasts store={store} />
      <Shortcuts open={shortcuts} />
      {leaving.value && <SignOutDialog close={() => (leaving.value = false)} />}
      {!session.value && <SignIn />}
    </>
  );
}

function View({ view, id }: { view: Route["view"]; id: string }) {
  if (view === "history") return <History />;
  if (view === "task") return <TaskPage key={id} id={id} />;
  if (view === "time") return <Time />;
  if (view === "proof") return <Proof />;
  if (view === "learn") return <Learn />;
  return <Tasks />;
}

/** Say if the service can't be reached just now, how many changes wait, and why, if the first one is in the way. */
function Connection() {
  const { store } = user.value!;
  const { offline, pending, failure, blocked } = store;
  const [first] = pending.value;
  const count = pending.value.length;
  const waits = count === 1 ? "One change waits" : `${count} changes wait`;
  const why = navigator.onLine ? "Daybook can't be reached just now." : "You are offline.";
  const away = offline.value && `${why} ${count ? `${waits}, and will be sent.` : "You can go on."}`;
  const inTheWay = !failure.value && !away && blocked.value && first;
  const text = failure.value || away || (inTheWay && `${nameOf(inTheWay)} can't be sent: ${blocked.value} ${waits}.`);
  return (
    <p role="status" class={text ? "connection" : "connection none"}>
      {text}{" "}
      {inTheWay && (
        <button type="button" onClick={() => store.discard(inTheWay.key)}>
          Discard this change
        </button>
      )}
    </p>
  );
}

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { momentText } from "../log/days";
import { textOf } from "../log/words";
import { createTimeTravel, type TimeTravel } from "../model/time_travel";
import { route, setQuery } from "../route";
import { user } from "../state";
import { Icon } from "../ui/icons";
import { PastList } from "./past_list";
import { RestoreDialog } from "./restore_dialog";

const STEP = 300;
/** Milliseconds of a step while it plays. */

export function Time() {
  const { daybook, store } = user.value!;
  const travel = useMemo(() => createTimeTravel(daybook, beginning()), [daybook]);
  const restoring = useSignal(false);
  useEffect(() => {
    const stop = new AbortController();
    void travel.load(stop.signal);
    const unsubscribe = store.event.subscribe((event) => event && travel.receive(event));
    return () => (stop.abort(), unsubscribe());
  }, [travel]);
  useAddress(travel);
  const { count, tasks, step } = travel.shown.value;
  const all = travel.read.value;
  const past = travel.whole.value && count < all;
  return (
    <div class={past ? "time past" : "time"}>
      <div class="column">
        <div class="heading">
          <h1>Time</h1>
          <p class="badge" role="status">
            {past ? "The past: to look at only" : "Now"}
          </p>
        </div>
        {travel.failure.value && <p role="alert">{travel.failure.value}</p>}
        {!travel.whole.value && !travel.failure.value && (
          <p role="status">Reading the log: {all.toLocaleString()} events …</p>
        )}
        {travel.whole.value && all === 0 && <p>Nothing has happened yet.</p>}
        {travel.whole.value && all > 0 && (
          <>
            <Slider travel={travel} />
            <div class="above">
              <p class="count">{tasks.length === 1 ? "1 task" : `${tasks.length.toLocaleString()} tasks`}</p>
              {past && (
                <button type="button" onClick={() => (restoring.value = true)}>
                  <Icon name="undo" />
                  Restore all to this moment
                </button>
              )}
            </div>
            <PastList tasks={tasks} changed={step?.task_id} />
            {restoring.value && <RestoreDialog moment={travel.moment()} close={() => (restoring.value = false)} />}
          </>
        )}
      </div>
    </div>
  );
}

/** Read the moment from the address; null is now. */
function beginning(): number | null {
  const at = route.peek().query.get("at");
  return at !== null && /^\d{1,12}$/.test(at) ? Number(at) : null;
}

/** Write the moment into the address once it rests: browsers refuse an address that changes all the time. */
function useAddress(travel: TimeTravel): void {
  const at = travel.at.value;
  useEffect(() => {
    const timer = setTimeout(() => setQuery({ at: Number.isFinite(at) ? String(at) : "" }), 200);
    return () => clearTimeout(timer);
  }, [at]);
}

function Slider({ travel }: { travel: TimeTravel }) {
  const playing = useSignal(false);
  const { count, step } = travel.shown.value;
  const all = travel.read.value;
  const text = step ? stepText(travel, count) : "Before everything";
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (!playing.value) return;
    const timer = setInterval(() => {
      travel.goTo(travel.shown.peek().count + 1);
      if (travel.at.peek() === Infinity) playing.value = false;
    }, STEP);
    return () => clearInterval(timer);
  }, [playing.value]);
  const play = () => {
    if (!playing.value && count >= all) travel.goTo(0);
    playing.value = !playing.value;
  };
  const go = (to: number) => {
    playing.value = false;
    travel.goTo(to);
  };
  return (
    <section class="slider" aria-label="Moment">
      <p class="moment">
        <span dir="auto">{text}</span>
        {step && <time dateTime={step.at}>{momentText(step.at)}</time>}
      </p>
      <input
        ref={input}
        type="range"
        aria-label="Events that have happened"
        aria-valuetext={`${count} of ${all}: ${text}`}
        min={0}
        max={all}
        value={count}
        onInput={(event) => go(event.currentTarget.valueAsNumber)}
      />
      <div class="transport">
        <button type="button" aria-label="To the beginning" disabled={count === 0} onClick={() => go(0)}>
          <Icon name="first" />
        </button>
        <button type="button" aria-label="One event back" disabled={count === 0} onClick={() => go(count - 1)}>
          <Icon name="back" />
        </button>
        <button type="button" class="primary" aria-label={playing.value ? "Pause" : "Play"} onClick={play}>
          <Icon name={playing.value ? "pause" : "play"} />
        </button>
        <button type="button" aria-label="One event on" disabled={count >= all} onClick={() => go(count + 1)}>
          <Icon name="next" />
        </button>
        <button type="button" aria-label="To now" disabled={count >= all} onClick={() => go(all)}>
          <Icon name="last" />
        </button>
        <span class="figures">
          {count.toLocaleString()} of {all.toLocaleString()}
        </span>
      </div>
    </section>
  );
}

function stepText({ timeline }: TimeTravel, count: number): string {
  return textOf(timeline.steps[count - 1]!, timeline.titleAt(count - 1));
}

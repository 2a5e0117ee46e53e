/** Group what happened by the browser's days, in the order given. */
export function byDay<T extends { at: string }>(events: readonly T[]): [day: string, events: T[]][] {
  const days: [string, T[]][] = [];
  for (const event of events) {
    const day = dayOf(event.at);
    if (days.at(-1)?.[0] !== day) days.push([day, []]);
    days.at(-1)![1].push(event);
  }
  return days;
}

const isoDay = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
const isoMoment = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const shortTime = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Write the browser's day of a moment, as `2026-11-29`. */
export function dayOf(at: string | Date): string {
  return isoDay.format(new Date(at));
}

/** Name a day: "Today", "Yesterday", or its date. */
export function dayName(day: string, now: Date): string {
  if (day === dayOf(now)) return "Today";
  const yesterday = new Date(now);
  yesterday.setDate(now.getDate() - 1);
  return day === dayOf(yesterday) ? "Yesterday" : longDay.format(new Date(`${day}T12:00:00`));
}

export function timeText(at: string): string {
  return shortTime.format(new Date(at));
}

/** Write a moment to the second, in a form whose columns line up. */
export function rowTime(at: string): string {
  return isoMoment.format(new Date(at));
}

export function momentText(at: string): string {
  return exact.format(new Date(at));
}

const PATHS = {
  check: "m5 12.5 4.5 4.5L19 7.5",
  clock: "M12 7v5l3 2M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16z",
  pencil: "M5 19l1-4L16 5l3 3L9 18l-4 1z",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.5 11v5M13.5 11v5",
  search: "M11 5a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM15.5 15.5 20 20",
  undo: "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
  shield: "M12 4l7 2.5v5c0 4-3 7-7 8.5-4-1.5-7-4.5-7-8.5v-5z",
  play: "M8 5l11 7-11 7z",
  pause: "M8 5v14M16 5v14",
  first: "M18 6l-8 6 8 6zM6 6v12",
  back: "M15 6l-8 6 8 6z",
  next: "M9 6l8 6-8 6z",
  last: "M6 6l8 6-8 6zM18 6v12",
  down: "M12 5v11M7 12l5 5 5-5M5 20h14",
} as const;

/** A small picture beside or instead of a word. It says nothing by itself: its button or link has a name. */
export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

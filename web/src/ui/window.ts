import { useLayoutEffect, useState } from "preact/hooks";

/** The rows to render: from `first` to before `end`. */
export interface Range {
  first: number;
  end: number;
}

const MARGIN = 12;
/** Rows that are rendered above and below the screen, so that scrolling doesn't show a gap. */

/** Return the rows that are on the screen, of a list whose top is at `top` (pixels, negative once it is scrolled). */
export function rangeOf(count: number, rowHeight: number, top: number, screen: number): Range {
  const first = Math.max(0, Math.min(count, Math.floor(-top / rowHeight)) - MARGIN);
  const end = Math.min(count, Math.ceil((screen - top) / rowHeight) + MARGIN);
  return { first, end: Math.max(first, end) };
}

/** Follow which rows of a list are on the screen, while the page is scrolled. */
export function useRange(list: { current: HTMLElement | null }, count: number, rowHeight: number): Range {
  const [range, setRange] = useState<Range>({ first: 0, end: Math.min(count, 40) });
  useLayoutEffect(() => {
    let frame = 0;
    const measure = () => {
      frame = 0;
      if (!list.current) return;
      const next = rangeOf(count, rowHeight, list.current.getBoundingClientRect().top, innerHeight);
      setRange((now) => (now.first === next.first && now.end === next.end ? now : next));
    };
    const later = () => (frame ||= requestAnimationFrame(measure));
    measure();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
    };
  }, [count, rowHeight]);
  return range;
}

const ROW = 4;
/** Height of a row, in the unit of the page's text (rem), as styles/tasks.css has it. */

/** Return the height of a row in pixels. It grows with the text, if the user enlarges it. */
export function useRowHeight(): number {
  const measured = () => ROW * parseFloat(getComputedStyle(document.documentElement).fontSize);
  const [height, setHeight] = useState(measured);
  useLayoutEffect(() => {
    const measure = () => setHeight(measured());
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, []);
  return height;
}

/** Where a row stands in a list of which only a part is in the document. */
export interface Place {
  id: string;
  /** Pixels below the list's top. */
  top: number;
  index: number;
  count: number;
}

/** Return the attributes that put a row at its place, and tell it to those who don't see it. */
export function placed({ id, top, index, count }: Place) {
  return {
    "data-id": id,
    style: { transform: `translateY(${top}px)` },
    "aria-setsize": count,
    "aria-posinset": index + 1,
  };
}

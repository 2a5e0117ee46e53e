import type { Filter } from "../model/filters";

const STATUSES: [Filter["status"], string][] = [
  ["all", "All"],
  ["open", "Open"],
  ["done", "Done"],
  ["overdue", "Overdue"],
];
export const SORTS: [Filter["sort"], string][] = [
  ["newest", "Newest first"],
  ["changed", "Last changed"],
  ["due", "Due first"],
  ["priority", "Most urgent"],
  ["title", "By title"],
];
const PRIORITIES = [
  ["", "Any priority"],
  ["high", "High"],
  ["medium", "Medium"],
  ["low", "Low"],
  ["none", "None"],
] as const;

const MOST_TAGS = 200;
/** Tags that are offered: a longer list nobody reads. */

interface Props {
  filter: Filter;
  tags: string[];
  change: (part: Partial<Filter>) => void;
  search: { current: HTMLInputElement | null };
}

export function FilterBar({ filter, tags, change, search }: Props) {
  return (
    <search class="filters">
      <label class="hidden" for="search">
        Search
      </label>
      <input
        ref={search}
        id="search"
        type="search"
        placeholder="Search"
        autocomplete="off"
        value={filter.q}
        onInput={(event) => change({ q: event.currentTarget.value })}
      />
      <fieldset class="segments">
        <legend class="hidden">Status</legend>
        {STATUSES.map(([value, text]) => (
          <label>
            <input
              type="radio"
              name="status"
              checked={filter.status === value}
              onChange={() => change({ status: value })}
            />
            <span>{text}</span>
          </label>
        ))}
      </fieldset>
      <Choice
        name="Priority"
        value={filter.priority}
        options={PRIORITIES}
        choose={(priority) => change({ priority })}
      />
      {(tags.length > 0 || filter.tag) && (
        <Choice
          name="Tag"
          value={filter.tag}
          options={[
            ["", "Any tag"],
            ...[...new Set([filter.tag, ...tags.slice(0, MOST_TAGS)])]
              .filter(Boolean)
              .map((tag) => [tag, tag] as const),
          ]}
          choose={(tag) => change({ tag })}
        />
      )}
    </search>
  );
}

interface ChoiceProps {
  name: string;
  value: string;
  options: readonly (readonly [string, string])[];
  choose: (value: string) => void;
}

/** A choice among some values, with its name for those who don't see it. */
export function Choice({ name, value, options, choose }: ChoiceProps) {
  return (
    <select aria-label={name} value={value} onChange={(event) => choose(event.currentTarget.value)}>
      {options.map(([each, text]) => (
        <option value={each} selected={each === value}>
          {text}
        </option>
      ))}
    </select>
  );
}

import { expect, test } from "vitest";
import { diffWords } from "../src/log/diff";

const written = (before: string, after: string) =>
  diffWords(before, after)
    .map(({ kind, text }) => (kind === "same" ? text : kind === "del" ? `[-${text}-]` : `{+${text}+}`))
    .join("");

test.each([
  ["Buy milk", "Buy oat milk", "Buy {+oat +}milk"],
  ["Buy milk", "Buy milk", "Buy milk"],
  ["", "Buy milk", "{+Buy milk+}"],
  ["Buy milk", "", "[-Buy milk-]"],
  ["Call Ann today", "Call Bob tomorrow", "Call [-Ann today-]{+Bob tomorrow+}"],
  ["one two three", "one three", "one [-two -]three"],
  ["一二三 牛奶", "一二三 面包", "一二三 [-牛奶-]{+面包+}"],
  ["cake 👨‍👩‍👧‍👦", "cake 👨‍👩‍👦", "cake [-👨‍👩‍👧‍👦-]{+👨‍👩‍👦+}"],
])("compares %j with %j", (before, after, expected) => {
  expect(written(before, after)).toBe(expected);
});

test("gives back both texts, whatever they are", () => {
  const words = ["a", "b", "c", " ", "\n", ".", "🥛", "ü"];
  let seed = 7;
  const lot = (count: number) => (seed = (seed * 48271) % 2147483647) % count;
  const text = () => Array.from({ length: lot(30) }, () => words[lot(words.length)]).join("");
  for (let round = 0; round < 500; round++) {
    const [before, after] = [text(), text()];
    const pieces = diffWords(before, after);
    const side = (left: string) =>
      pieces
        .filter(({ kind }) => kind !== left)
        .map((piece) => piece.text)
        .join("");
    expect(side("ins")).toBe(before);
    expect(side("del")).toBe(after);
  }
});

test("shows texts as replaced that are too long to compare", () => {
  const before = "a ".repeat(2000);
  const after = "b ".repeat(2000);
  expect(diffWords(before, after).map(({ kind }) => kind)).toEqual(["del", "ins", "same"]);
});

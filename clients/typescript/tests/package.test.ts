import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { sizes } from "../scripts/size.mjs";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");

test("apps get no more than they import, and not much", async () => {
  const bytes: Record<string, number> = await sizes();
  expect(bytes.createDaybook).toBeLessThan(4800);
  expect(bytes["createDaybook, stream, sync, verify"]).toBeLessThan(10_300);
  expect(bytes.everything).toBeLessThan(13_500);
});

test("the examples of the README are those that are checked here", () => {
  const blocks = [...read("../README.md").matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block);
  expect(blocks).toEqual([read("example.ts"), read("example_tanstack.ts").replace(/^.*\/\/ README\n/s, "")]);
});

test("no module needs Node", () => {
  expect(read("../tsconfig.build.json")).toContain('"types": []');
});

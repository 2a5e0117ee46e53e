import { verify } from "daybook-client";
import { expect, inject, test } from "vitest";
import { KeptHeads } from "../src/proof/heads";

test("finds what the service's own verifier finds", async () => {
  for (const { log, head, seq } of inject("fixtures").chains) {
    const report = await verify(log, { head });
    expect(report.mismatch?.seq ?? null).toBe(seq);
    expect(report.clean).toBe(seq === null);
  }
});

test("tells how many events fit so far", async () => {
  const [whole, broken] = inject("fixtures").chains;
  const told: number[] = [];
  await verify(whole!.log, { onEvent: (events) => told.push(events) });
  expect(told).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  told.length = 0;
  await verify(broken!.log, { onEvent: (events) => told.push(events) });
  expect(told).toEqual([1, 2, 3, 4]);
});

test("keeps the newest heads, each once", () => {
  const stored = new Map<string, string>();
  const storage = {
    getItem: (name: string) => stored.get(name) ?? null,
    setItem: (name: string, value: string) => void stored.set(name, value),
  };
  const heads = new KeptHeads("ann", storage);
  expect(heads.list()).toEqual([]);
  for (let seq = 1; seq <= 25; seq++) {
    for (let twice = 0; twice < 2; twice++) heads.keep({ seq, hash: `${seq}`, at: null }, new Date(seq * 1000));
  }
  expect(heads.list()).toHaveLength(20);
  expect(heads.list()[0]).toEqual({ seq: 25, hash: "25", at: null, kept: "1970-01-01T00:00:25.000Z" });
  expect(new KeptHeads("bob", storage).list()).toEqual([]);
});

import { readFileSync } from "node:fs";
import { expect, inject, test } from "vitest";
import { CannotVerify, type Head, type Report, verify } from "daybook-client";

interface Case {
  log: string;
  head: Head | null;
  after: Head | null;
  expected: Omit<Report, "clean"> | string;
}

const REASONS: Record<string, CannotVerify["reason"]> = {
  NotAnExport: "not-an-export",
  EmptyExport: "empty",
  CutOff: "cut-off",
  EarlierHead: "earlier-head",
  UnknownEvent: "unknown-event",
};

test("finds and names all that the service's own verifier does", async () => {
  const cases = JSON.parse(readFileSync(inject("cases"), "utf8")) as Case[];
  expect(cases.length).toBeGreaterThan(100);
  for (const [index, { log, head, after, expected }] of cases.entries()) {
    const bytes = Buffer.from(log, "base64");
    const where = `case ${index}: ${bytes.toString().slice(0, 3000)}`;
    try {
      const { clean, ...report } = await verify(bytes, { ...(head && { head }), ...(after && { after }) });
      expect(clean, where).toBe(!report.mismatch);
      expect(report, where).toEqual(expected);
    } catch (error) {
      if (!(error instanceof CannotVerify)) throw error;
      expect(error.reason, where).toBe(REASONS[expected as string]);
    }
  }
});

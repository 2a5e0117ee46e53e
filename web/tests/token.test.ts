import { expect, inject, test } from "vitest";
import { hrefOf, parseRoute } from "../src/route";
import { readClaims, readFragment } from "../src/token";

const tokenWith = (payload: string) => `e30.${Buffer.from(payload).toString("base64url")}.c2ln`;
const tokenOf = (claims: unknown) => tokenWith(JSON.stringify(claims));

test("reads the user of a token, also from an inner claim", () => {
  expect(readClaims(tokenOf({ sub: "ann" }), "sub")).toEqual({ userId: "ann" });
  expect(readClaims(tokenOf({ user: { id: "änn?ÿ~" } }), "user.id")).toEqual({ userId: "änn?ÿ~" });
});

test.each([
  "",
  "x",
  "a.b.c",
  tokenOf({}),
  tokenOf({ sub: "", exp: 5 }),
  tokenOf(null),
])("takes %j for no token", (text) => {
  expect(readClaims(text, "sub")).toBeNull();
  expect(readClaims(text, "user.id")).toBeNull();
});

test("finds the user whom the service finds in a token, and nobody where it finds nobody", () => {
  const { users } = inject("fixtures");
  const found = users.map(({ payload, claim }) => readClaims(tokenWith(payload), claim)?.userId ?? null);
  expect(users.map((each, index) => ({ ...each, user: found[index] }))).toEqual(users);
  expect(new Set(found)).toContain("12345678901234567890");
});

test("takes a token from the fragment only with the state that the tab has sent", () => {
  expect(readFragment("#token=t", undefined)).toEqual({ token: "t" });
  expect(readFragment("#token=t&state=s", "s")).toEqual({ token: "t" });
  expect(readFragment("#token=t&state=s", "other")).toEqual({ refused: "other-state" });
  expect(readFragment("#token=t&state=s", null)).toEqual({ refused: "other-state" });
  expect(readFragment("#token=t&state=", "")).toEqual({ refused: "other-state" });
  expect(readFragment("#token=t", "s")).toEqual({ refused: "other-state" });
  expect(readFragment("#token=", undefined)).toEqual({ refused: "no-token" });
  expect(readFragment("#/tasks?q=token", undefined)).toBeNull();
});

test("reads and writes the places of the page", () => {
  const place = parseRoute(hrefOf("history", "", { view: "table", type: "" }));
  expect([place.view, place.id, String(place.query)]).toEqual(["history", "", "view=table"]);
  expect(parseRoute("#/task/0a-1f").id).toBe("0a-1f");
  expect(parseRoute("#/nowhere").view).toBe("tasks");
  expect(parseRoute("").view).toBe("tasks");
});

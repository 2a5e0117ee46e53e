import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  base: "./", // the service puts its own path before it
  resolve: {
    alias: [
      { find: /^daybook-client$/, replacement: path("../clients/typescript/src/index.ts") },
      { find: /^daybook-client\/digest$/, replacement: path("../clients/typescript/src/verify/digest.ts") },
    ],
    dedupe: ["openapi-fetch", "eventsource-parser"], // the client's, which needn't be installed itself
  },
  build: {
    outDir: path("../api/static"),
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: URLs are against the policy
    modulePreload: { polyfill: false },
    target: "es2023",
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // those that know light-dark()
  },
  worker: { format: "es" },
  test: { include: ["tests/**/*.test.ts"], globalSetup: "tests/fixtures.ts", isolate: false, maxWorkers: 1 },
});

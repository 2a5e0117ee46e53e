import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^daybook-client$/, replacement: source("index.ts") },
      { find: /^daybook-client\/tanstack$/, replacement: source("tanstack/index.ts") },
    ],
  },
  test: { globalSetup: "tests/service.ts", testTimeout: 20_000, isolate: false, maxWorkers: 1 },
});

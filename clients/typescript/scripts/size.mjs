// Prints how large what an app imports is, minified and gzipped, without what it doesn't import.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ENTRIES = {
  createDaybook: `export { createDaybook } from "./src/index.ts"`,
  "createDaybook, stream, sync, verify": `export { createDaybook, stream, sync, verify } from "./src/index.ts"`,
  everything: `export * from "./src/index.ts"; export * from "./src/tanstack/index.ts"`,
};

const resolveDir = fileURLToPath(new URL("..", import.meta.url));

export async function sizes() {
  const options = { bundle: true, minify: true, format: "esm", platform: "browser", write: false, logLevel: "error" };
  const measured = Object.entries(ENTRIES).map(async ([name, contents]) => {
    const { outputFiles } = await build({ ...options, stdin: { contents, resolveDir, loader: "ts" } });
    return [name, gzipSync(outputFiles[0].contents, { level: 9 }).length];
  });
  return Object.fromEntries(await Promise.all(measured));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, bytes] of Object.entries(await sizes())) console.log(`${bytes.toString().padStart(6)}  ${name}`);
}

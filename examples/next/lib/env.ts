/** Where this app is, as browsers see it: `iss` and `aud` of its tokens. */
export const appUrl = withoutSlash(process.env.BETTER_AUTH_URL ?? "http://localhost:3000");

/** Where Daybook is, as this server sees it. */
export const daybookUrl = withoutSlash(process.env.DAYBOOK_URL ?? "http://localhost:8000");

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, "");
}

import { betterAuth } from "better-auth";
import { jwt } from "better-auth/plugins/jwt";
import { Pool } from "pg";
import { appUrl } from "./env";

export const auth = betterAuth({
  baseURL: appUrl,
  database: new Pool({ connectionString: process.env.DATABASE_URL }),
  emailAndPassword: { enabled: true },
  telemetry: { enabled: false },
  plugins: [
    jwt({
      disableSettingJwtHeader: true, // tokens stay on the server
      jwt: { definePayload: () => ({}) }, // the user's id, `sub`, is all that Daybook reads
      jwks: { rotationInterval: 30 * 24 * 3600 }, // seconds
    }),
  ],
});

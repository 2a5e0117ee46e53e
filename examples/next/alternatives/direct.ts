import { jwtClient } from "better-auth/client/plugins";
import { createAuthClient } from "better-auth/react";
import { createDaybook, type Daybook } from "daybook-client";

const authClient = createAuthClient({ plugins: [jwtClient()] });

/** Make a client that calls Daybook from the browser, without the proxy. One for each user who signs in. */
export function directDaybook(url: string, userId: string): Daybook {
  return createDaybook({
    url,
    userId,
    token: async () => {
      const { data, error } = await authClient.token();
      if (data) return data.token;
      throw error.status === 401 ? new Error("Please sign in.") : new TypeError("No network."); // which is tried again
    },
  });
}

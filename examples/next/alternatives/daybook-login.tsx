"use client";

import { jwtClient } from "better-auth/client/plugins";
import { createAuthClient } from "better-auth/react";
import { useEffect, useState } from "react";

const DAYBOOK = "https://tasks.example.com/ui/";
const authClient = createAuthClient({ plugins: [jwtClient()] });

/** Lead the signed-in user to Daybook's page, with a token. Put this into `app/daybook-login/page.tsx`. */
export default function Page() {
  const [message, setMessage] = useState("");

  useEffect(() => {
    const given = new URLSearchParams(location.search);
    if (given.get("return_to") !== DAYBOOK) return setMessage("This link doesn't come from Daybook.");
    authClient.token().then(({ data }) => {
      if (!data) return setMessage("Please sign in, and open Daybook again.");
      const back = new URLSearchParams({ token: data.token, state: given.get("state") ?? "" });
      location.replace(`${DAYBOOK}#${back}`);
    });
  }, []);

  return <p role="status">{message}</p>;
}

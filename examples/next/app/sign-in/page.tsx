import { headers } from "next/headers";
import { redirect } from "next/navigation";
import { SignInForm } from "@/components/sign-in-form";
import { auth } from "@/lib/auth";

/** Ask who is there. Whoever is signed in must sign out first, so that nothing of theirs is left. */
export default async function Page() {
  if (await auth.api.getSession({ headers: await headers() })) redirect("/");
  return (
    <main>
      <h1>Tasks</h1>
      <SignInForm />
    </main>
  );
}

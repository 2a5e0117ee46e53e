import { SignInForm } from "@/components/sign-in-form";

export default function Page() {
  return (
    <main>
      <h1>Tasks</h1>
      <SignInForm />
    </main>
  );
}

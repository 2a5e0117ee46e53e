"use client";

import { type FormEvent, useState } from "react";
import { authClient } from "@/lib/auth-client";
import { leave } from "@/lib/leave";
import { useHydrated } from "@/lib/use-hydrated";

export function SignInForm() {
  const hydrated = useHydrated();
  const [isNew, setNew] = useState(false);
  const [notice, setNotice] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const [email, password, name] = ["email", "password", "name"].map((field) => String(form.get(field) ?? ""));
    const person = { email: email ?? "", password: password ?? "" };
    const { error } = isNew
      ? await authClient.signUp.email({ ...person, name: name ?? "" })
      : await authClient.signIn.email(person);
    if (error) setNotice(error.message ?? "That didn't work. Please try again.");
    else leave();
  }

  return (
    <form onSubmit={submit} className="sign-in">
      {isNew && <input name="name" aria-label="Name" placeholder="Name" autoComplete="name" required />}
      <input name="email" aria-label="Email" placeholder="Email" type="email" autoComplete="email" required />
      <input
        name="password"
        aria-label="Password"
        placeholder="Password"
        type="password"
        autoComplete={isNew ? "new-password" : "current-password"}
        minLength={8}
        required
      />
      <button type="submit" disabled={!hydrated}>
        {isNew ? "Sign up" : "Sign in"}
      </button>
      <button type="button" disabled={!hydrated} onClick={() => setNew(!isNew)}>
        {isNew ? "I have an account" : "I am new here"}
      </button>
      {notice && <p role="alert">{notice}</p>}
    </form>
  );
}

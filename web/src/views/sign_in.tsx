import { useEffect, useRef } from "preact/hooks";
import { config, goToLogin, notice, signIn } from "../session";
import { user } from "../state";

/** Ask for a token: in front of everything, so that the same user goes on where they were. */
export function SignIn() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  const waiting = user.value?.store.pending.value.length ?? 0;
  return (
    <dialog ref={dialog} class="sign-in" aria-labelledby="sign-in" onCancel={(event) => event.preventDefault()}>
      <h1 id="sign-in">
        <span class="brand">Daybook</span>
      </h1>
      <p class="lead">Your tasks, and everything that has happened to them.</p>
      <p role="alert" class={notice.value ? "notice" : "notice none"}>
        {notice.value}
      </p>
      {waiting > 0 && <p>What you have changed meanwhile is kept, and sent once you are back.</p>}
      {config.loginUrl ? <LoginButton url={config.loginUrl} /> : <TokenForm />}
    </dialog>
  );
}

function LoginButton({ url }: { url: string }) {
  return (
    <button type="button" class="primary" onClick={() => goToLogin(url)}>
      Sign in
    </button>
  );
}

function TokenForm() {
  const input = useRef<HTMLInputElement>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    const given = input.current!.value;
    signIn(new URLSearchParams(given.split("#")[1]).get("token") ?? given);
  };
  return (
    <form onSubmit={submit}>
      <p>
        <code>make run</code> prints a link that leads in. For another user, run <code>daybook token USER</code> and
        paste what it prints.
      </p>
      <label for="token">Link or token</label>
      <input ref={input} id="token" type="password" autocomplete="off" required />
      <button type="submit" class="primary">
        Sign in
      </button>
    </form>
  );
}

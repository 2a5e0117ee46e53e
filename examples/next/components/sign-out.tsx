import { authClient } from "@/lib/auth-client";
import { leave } from "@/lib/leave";
import { useTasks } from "./tasks-provider";

/** Sign out, and leave nothing of the user behind: not in storage, and by a new page not in memory. */
export function SignOut() {
  const { daybook, tasks, setNotice } = useTasks();

  async function signOut() {
    const waiting = (await tasks.queue.pending()).length;
    if (waiting && !confirm(`Changes that aren't sent yet: ${waiting}. Sign out, and lose them?`)) return;
    const { error } = await authClient.signOut();
    if (error) return setNotice("You are still signed in, since the network failed. Please try again.");
    localStorage.removeItem(`daybook:${daybook.userId}`);
    leave();
  }

  return (
    <button type="button" onClick={signOut}>
      Sign out
    </button>
  );
}

let leaving = false;

/**
 * Go to the start, which is the sign-in for anybody without a session, as a new page: nothing of a user stays in memory.
 *
 * A sign-out is noticed in several places, and a second navigation would break off the first.
 */
export function leave() {
  if (leaving) return;
  leaving = true;
  location.replace("/");
}

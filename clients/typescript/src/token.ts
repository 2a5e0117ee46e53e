/** A token, or a function that gets one. If it throws a `TypeError`, as `fetch` does without a network, it is called
 * again later; any other error ends what it was for. */
export type TokenSource = string | (() => string | Promise<string>);

/** A token that is kept until it is refused. Calls that ask at the same time share one request to the source. */
export interface TokenCache {
  get(): Promise<string>;
  /** Get another token than the refused one. Return the same one if the source has no other. */
  replace(refused: string): Promise<string>;
}

/** Make the cache of a source. A failure of the source isn't kept: the next call asks again. */
export function tokenCache(source: TokenSource): TokenCache {
  let kept: Promise<string> | undefined;
  let known: string | undefined;
  const ask = async () => (known = typeof source === "string" ? source : await source());
  const get = () =>
    (kept ??= ask().catch((error: unknown) => {
      kept = undefined;
      throw error;
    }));
  return {
    get,
    replace(refused) {
      if (known === refused) known = kept = undefined;
      return get();
    },
  };
}

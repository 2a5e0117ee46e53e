/** The service's settings that the page needs, as its index tells them. */
export interface Config {
  /** The path that the service is under: "" or one such as "/daybook". */
  base: string;
  /** The claim of the token that names the user; dots lead inwards, unless a claim has that very name. */
  userClaim: string;
  /** The page of the operator's frontend that signs users in; null in development. */
  loginUrl: string | null;
}

/** Read the settings from the index. */
export function readConfig(document: Document): Config {
  const written = document.querySelector<HTMLMetaElement>('meta[name="daybook"]')!.content;
  return JSON.parse(written) as Config;
}

// The admin listener's JSON API. The token is kept for this tab only, never in an
// address, and goes out in a header.

const KEPT = "admin-token";
const PATIENCE_MS = 10_000;

/** An answer that is none: status is HTTP's, 0 when nothing came; message is in words. */
export class ApiProblem extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export class Api {
  #token = kept();

  get hasToken() {
    return this.#token !== "";
  }

  /** The token for what follows; "" forgets it. */
  set token(token) {
    this.#token = token;
    try {
      if (token) sessionStorage.setItem(KEPT, token);
      else sessionStorage.removeItem(KEPT);
    } catch {
      // Storage is forbidden: it holds until the page is closed.
    }
  }

  /** What path ("server", "channels" …) answers. Throws an ApiProblem. */
  async get(path) {
    const answer = await this.#ask("GET", path);
    try {
      return await answer.json();
    } catch {
      throw new ApiProblem(0, "The server's answer is cut off or is no JSON.");
    }
  }

  /** Ends what path names. Throws an ApiProblem. */
  async end(path) {
    await this.#ask("DELETE", path);
  }

  async #ask(method, path) {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    let answer;
    try {
      answer = await fetch(`api/v1/${path}`, { method, headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
    } catch (error) {
      throw new ApiProblem(0, error.name === "TimeoutError" ? "The server does not answer." : "The server cannot be reached.");
    }
    if (answer.ok) return answer;
    let words;
    try {
      words = String((await answer.json()).error);
    } catch {
      words = `status ${answer.status}`;
    }
    throw new ApiProblem(answer.status, words);
  }
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

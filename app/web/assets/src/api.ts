// Calls to the REST API: same origin, CSRF header, one error shape.

export interface Problem {
  code: string;
  message: string;
  pointer?: string | null;
  hint?: string | null;
  allow?: string[] | null;
}

/** An answer with status 4xx or 5xx, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problems: Problem[],
  ) {
    super(problems[0]?.message ?? `The server answered ${status}.`);
  }
}

/** Return the token that proves a request comes from our own page. */
export function csrfToken(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** Return a new idempotency key. crypto.randomUUID exists on https and localhost only. */
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the problems in an error body; a body that is not ours gives one that shows its text. */
export function problemsOf(status: number, text: string): Problem[] {
  try {
    const body = JSON.parse(text) as Problem & { problems?: Problem[] };
    if (body.problems?.length) return body.problems;
    if (body.message) return [body];
  } catch {
    // Not JSON: a proxy's error page, say.
  }
  return [{ code: "unexpected", message: `The server answered ${status}: ${text.slice(0, 200)}` }];
}

/** Send a request and return the parsed answer; throw ApiError otherwise. A body that is text is JSON already. */
export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  extra: Record<string, string> = {},
): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", ...extra };
  if (method !== "GET") headers["X-CSRF-Token"] = csrfToken();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await send(path, {
    method,
    headers,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new ApiError(response.status, problemsOf(response.status, text));
  return (text ? JSON.parse(text) : undefined) as T;
}

async function send(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { credentials: "same-origin", ...init });
  } catch {
    throw new ApiError(0, [{ code: "unreachable", message: "The server does not answer.", hint: "Is `cairn up` still running?" }]);
  }
}

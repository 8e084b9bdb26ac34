// JSON calls outside the contract's services: `/auth/*`, and discovery before a log-in. Every failure is thrown as an
// `HttpError` whose text can be shown.

export class HttpError extends Error {
  constructor(
    message: string,
    /** 0 when there was no response. */
    readonly status: number,
    /** Seconds; 0 when the server named no wait. */
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

export const UNREACHABLE = 'The server cannot be reached. Check the connection and try again.';

const CALL_TIMEOUT_MS = 20_000;

async function call<T>(path: string, request: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      ...request,
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
  } catch {
    throw new HttpError(UNREACHABLE, 0);
  }
  // A response without JSON comes from a proxy in between.
  const json = (await response.json().catch(() => ({}))) as { error?: string; message?: string };
  if (response.ok) return json as T;
  const retryAfter = Math.max(0, Number(response.headers.get('Retry-After')) || 0);
  const text = json.error ?? json.message ?? '';
  throw new HttpError(text || `The server answered ${response.status}.`, response.status, retryAfter);
}

export const post = <T>(path: string, body: unknown, headers: Record<string, string> = {}) =>
  call<T>(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });

const CSRF_COOKIE = 'chatto_csrf';

function csrfToken(): string {
  const pair = document.cookie.split('; ').find((one) => one.startsWith(`${CSRF_COOKIE}=`));
  return decodeURIComponent(pair?.slice(CSRF_COOKIE.length + 1) ?? '');
}

/** Whether there may be a session: the server sets this cookie along with the session's, which scripts cannot read. */
export const hasSessionHint = (): boolean => csrfToken() !== '';

export interface LoggedIn {
  user: { id: string; login: string };
}

export const login = (identifier: string, password: string) =>
  post<LoggedIn>('/auth/login', { identifier, password });

export const logout = () => post('/auth/logout', {}, { 'X-CSRF-Token': csrfToken() });

export interface JoinLink {
  url: string;
  expiresAt: string;
}

export const makeJoinLink = (fields: { displayName?: string }) =>
  post<JoinLink>('/auth/join-links', fields, { 'X-CSRF-Token': csrfToken() });

/** A join link that nobody has used yet. Its address was shown only to the person who made it. */
export interface OpenLink {
  id: string;
  /** `null`: it was made by a command on the server. */
  createdBy: { id: string; login: string } | null;
  createdAt: string;
  expiresAt: string;
  login: string | null;
  displayName: string | null;
  email: string | null;
  role: string | null;
}

export const listJoinLinks = async () => (await call<{ links: OpenLink[] }>('/auth/join-links', { method: 'GET' })).links;

export const revokeJoinLink = (id: string) =>
  call(`/auth/join-links/${encodeURIComponent(id)}`, { method: 'DELETE', headers: { 'X-CSRF-Token': csrfToken() } });

/** What an owner should act on. */
export interface OwnerNotice {
  code: string;
  text: string;
  action: string;
}

export const listOwnerNotices = async () =>
  (await call<{ notices: OwnerNotice[] }>('/api/operations', { method: 'GET' })).notices;

export interface LinkContent {
  kind: 'owner' | 'join';
  serverName: string;
  fixed: { login: string | null; displayName: string | null; email: string | null };
}

export const inspectLink = (token: string) => post<LinkContent>('/auth/setup/inspect', { token });

export const useLink = (fields: Record<string, string>) => post<LoggedIn>('/auth/setup', fields);

export interface PublicServer {
  name: string;
  description?: string;
  logoUrl?: string;
}

export async function getServer(): Promise<PublicServer> {
  const { profile } = await post<{ profile: PublicServer }>(
    '/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer',
    {},
  );
  return profile;
}

// What a failed call means to the user: what kind of error it is, and a text to show.
import { Code, ConnectError } from '@connectrpc/connect';
import { HttpError } from './auth';

export type ErrorKind =
  /** No response, or a temporary condition: the same call may succeed later. */
  | 'transient'
  /** There is no session any more. */
  | 'signed-out'
  /** Not permitted, or the object does not exist. */
  | 'inaccessible'
  /** Too many requests. */
  | 'rate-limited'
  /** Anything else: a retry would fail the same way. */
  | 'permanent';

export interface CallError {
  kind: ErrorKind;
  text: string;
}

const sentence = (text: string): string =>
  text ? text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.') : '';

export function callErrorOf(error: unknown): CallError {
  if (error instanceof HttpError) return { kind: 'permanent', text: error.message };
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Unauthenticated:
      return { kind: 'signed-out', text: 'You are no longer logged in.' };
    case Code.PermissionDenied:
      return { kind: 'inaccessible', text: 'You may not do this here.' };
    case Code.NotFound:
      return { kind: 'inaccessible', text: 'This is not there any more.' };
    case Code.ResourceExhausted:
      return { kind: 'rate-limited', text: sentence(rawMessage) };
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.Canceled:
    case Code.Aborted:
      return { kind: 'transient', text: 'The server cannot be reached.' };
    case Code.Internal:
      return { kind: 'transient', text: 'The server had a fault.' };
    default:
      return { kind: 'permanent', text: sentence(rawMessage) };
  }
}

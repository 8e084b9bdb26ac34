// What a failed call means to the user: what kind of error it is, and a text to show.
import { HttpError } from './auth';
import { FailedCall } from './transport';

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

const UNREACHABLE = 'The server cannot be reached.';

export function callErrorOf(error: unknown): CallError {
  if (error instanceof HttpError) return { kind: 'permanent', text: error.message };
  const code = error instanceof FailedCall ? error.code : 'unknown';
  const { message } = error as Error;
  switch (code) {
    case 'unauthenticated':
      return { kind: 'signed-out', text: 'You are no longer logged in.' };
    case 'permission_denied':
      return { kind: 'inaccessible', text: 'You may not do this here.' };
    case 'not_found':
      return { kind: 'inaccessible', text: 'This is not there any more.' };
    case 'resource_exhausted':
      return { kind: 'rate-limited', text: sentence(message) };
    case 'unavailable':
      return { kind: 'transient', text: message.startsWith('the server') ? sentence(message.replace(/, try again$/, '')) : UNREACHABLE };
    case 'deadline_exceeded':
    case 'canceled':
    case 'aborted':
      return { kind: 'transient', text: UNREACHABLE };
    case 'internal':
      return { kind: 'transient', text: 'The server had a fault.' };
    default:
      return { kind: 'permanent', text: sentence(message) };
  }
}

// What a failed call means for the person at the screen.
import { Code, ConnectError } from '@connectrpc/connect';
import { PlainError } from './plain';

export type Kind =
  /** Nothing answered, or something that passes: the same call may succeed later. */
  | 'transient'
  /** The session ended. */
  | 'signed-out'
  /** Not allowed, or the thing is not there. */
  | 'refused'
  /** Too fast. */
  | 'slow-down'
  /** Anything else: repeating it changes nothing. */
  | 'final';

export interface Failure {
  kind: Kind;
  text: string;
}

const sentence = (text: string): string =>
  text ? text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.') : '';

export function failure(error: unknown): Failure {
  if (error instanceof PlainError) return { kind: 'final', text: error.message };
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Unauthenticated:
      return { kind: 'signed-out', text: 'You are no longer logged in.' };
    case Code.PermissionDenied:
      return { kind: 'refused', text: 'You may not do this here.' };
    case Code.NotFound:
      return { kind: 'refused', text: 'This is not there any more.' };
    case Code.ResourceExhausted:
      return { kind: 'slow-down', text: sentence(rawMessage) };
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.Canceled:
    case Code.Aborted:
      return { kind: 'transient', text: 'The server cannot be reached.' };
    case Code.Internal:
      return { kind: 'transient', text: 'The server had a fault.' };
    default:
      return { kind: 'final', text: sentence(rawMessage) };
  }
}

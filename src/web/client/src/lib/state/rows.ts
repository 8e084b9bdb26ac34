// Rows of a timeline as the client keeps them: only what is drawn, with times as numbers.
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Message } from '../api/gen/chatto/api/v1/messages_pb';
import type { RoomTimelineEvent } from '../api/gen/chatto/api/v1/timeline_pb';

export const millis = (time: Timestamp | undefined): number =>
  time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6) : 0;

export type RowKind = 'message' | 'joined' | 'left' | 'archived' | 'unarchived';

export interface Row {
  id: string;
  kind: RowKind;
  at: number;
  actor: string;
  /** A message's text; `undefined` when it is deleted. */
  body: string | undefined;
  deleted: boolean;
  edited: boolean;
}

/** The row that is drawn for an event; `undefined` for what is never drawn in a room. */
export function rowOf(event: RoomTimelineEvent): Row | undefined {
  const at = millis(event.createdAt);
  const plain = (kind: RowKind): Row => ({
    id: event.id, kind, at, actor: event.actorId, body: undefined, deleted: false, edited: false,
  });
  switch (event.event.case) {
    case 'messagePosted': {
      const message = event.event.value.message;
      // Thread replies belong to their thread.
      return message && message.threadRootEventId === '' ? rowOfMessage(message) : undefined;
    }
    case 'userJoinedRoom':
      return plain('joined');
    case 'userLeftRoom':
      return plain('left');
    case 'roomArchived':
      return plain('archived');
    case 'roomUnarchived':
      return plain('unarchived');
    default:
      return undefined;
  }
}

export function rowOfMessage(message: Message): Row {
  return {
    id: message.id,
    kind: 'message',
    at: millis(message.createdAt),
    actor: message.actorId,
    body: message.body,
    deleted: message.deletedAt !== undefined || message.body === undefined,
    edited: message.updatedAt !== undefined,
  };
}

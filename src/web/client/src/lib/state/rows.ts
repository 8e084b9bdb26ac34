// Rows of a timeline as the client keeps them: only what is drawn, with times in milliseconds.
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Message, MessageAttachment } from '../api/gen/chatto/api/v1/messages_pb';
import type { RoomTimelineEvent } from '../api/gen/chatto/api/v1/timeline_pb';

export const millis = (time: Timestamp | undefined): number =>
  time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6) : 0;

export type RowKind = 'message' | 'joined' | 'left' | 'archived' | 'unarchived';

export type FileKind = 'image' | 'audio' | 'video' | 'other';

/** A file of a message. The URLs come from the server; `''` when there is none that a browser may load. */
export interface MessageFile {
  id: string;
  name: string;
  /** The media type. */
  type: string;
  kind: FileKind;
  /** Pixels of an image; 0 when unknown. */
  width: number;
  height: number;
  url: string;
  /** The thumbnail of an image, or the image itself. */
  preview: string;
  /** When the URLs end; 0 when that is not known. */
  expiresAt: number;
}

export interface Row {
  id: string;
  kind: RowKind;
  at: number;
  actor: string;
  /** A message's text; `undefined` when there is none to read. */
  body: string | undefined;
  state: 'whole' | 'deleted' | 'unreadable';
  /** When it was deleted; 0 when it was not. */
  deletedAt: number;
  /** Whether it has reactions or replies. */
  hasMore: boolean;
  edited: boolean;
  files: readonly MessageFile[];
}

const WHOLE = { state: 'whole', deletedAt: 0, hasMore: false, edited: false, files: [] } as const;

/** A row for a message that is being sent, to group its neighbours by. */
export const rowOfPending = (key: string, actor: string, at: number, body: string): Row => ({
  id: key, kind: 'message', at, actor, body, ...WHOLE,
});

/** How long a deleted message is shown as such (contract, behaviour 4.1). */
const TOMBSTONE_MS = 3_600_000;

export const isShown = ({ deletedAt, hasMore }: Row, now: number): boolean =>
  deletedAt === 0 || hasMore || now - deletedAt < TOMBSTONE_MS;

/** The row that is drawn for an event; `undefined` for an event that is never drawn in a room. */
export function rowOf(event: RoomTimelineEvent): Row | undefined {
  const at = millis(event.createdAt);
  const plain = (kind: RowKind): Row => ({
    id: event.id, kind, at, actor: event.actorId, body: undefined, ...WHOLE,
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
  const deletedAt = millis(message.deletedAt);
  // A message without text whose last file was removed counts as deleted (contract, behaviour 4.2).
  const isEmptied = message.body === '' && message.attachments.length === 0;
  return {
    id: message.id,
    kind: 'message',
    at: millis(message.createdAt),
    actor: message.actorId,
    body: message.body,
    state: deletedAt > 0 || isEmptied ? 'deleted' : message.body === undefined ? 'unreadable' : 'whole',
    deletedAt,
    hasMore: message.reactions.length > 0 || (message.thread?.replyCount ?? 0) > 0,
    edited: message.updatedAt !== undefined,
    files: message.attachments.map(fileOf),
  };
}

/** Accepts `http` and `https` only: any other URL could be a script. */
export function addressOf(url: string | undefined): string {
  try {
    const address = new URL(url ?? '', location.href);
    return url && /^https?:$/.test(address.protocol) ? address.href : '';
  } catch {
    return '';
  }
}

/** Images of other types are not shown in the page: SVG may contain scripts, and most browsers show no TIFF or HEIC. */
const IMAGE = /^image\/(?:avif|gif|jpeg|png|webp)$/;

/** Of a message, or of an asset, which has the same fields. */
export function fileOf({ id, filename: name, contentType, width, height, assetUrl, thumbnailAssetUrl }: Omit<MessageAttachment, `$${string}`>): MessageFile {
  const type = contentType.split(';', 1)[0] ?? '';
  const url = addressOf(assetUrl?.url);
  const media = /^(audio|video)\//.exec(type)?.[1] as FileKind | undefined;
  const kind = url === '' ? 'other' : IMAGE.test(type) ? 'image' : (media ?? 'other');
  const preview = addressOf(thumbnailAssetUrl?.url) || url;
  return { id, name, type, kind, width, height, url, preview, expiresAt: millis(assetUrl?.expiresAt) };
}

/** A file of a message that is being sent: only its name is shown. */
export const fileOfPending = ({ id, name }: { id: string; name: string }): MessageFile => ({
  id, name, type: '', kind: 'other', width: 0, height: 0, url: '', preview: '', expiresAt: 0,
});

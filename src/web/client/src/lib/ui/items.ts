// Turns rows into what the timeline draws: messages grouped by author, joins and leaves in one line, separators between
// days, and the line above new messages.
import { isShown, rowOfPending, type MessageFile, type Row } from '../state/rows';
import type { Pending } from '../state/outbox.svelte';
import { dayOf } from './times';
import type { ListItem } from './heights';

export interface Item extends ListItem {
  kind: 'start' | 'message' | 'people' | 'notice' | 'pending';
  row?: Row;
  /** The joins and leaves of a `people` item. */
  rows?: readonly Row[];
  pending?: Pending;
  /** Set on the first item of a day. */
  day?: number;
  isFirstNew: boolean;
  /** Whether it continues the message above it, and so has no name and avatar. */
  isGrouped: boolean;
}

const GROUP_MS = 5 * 60_000;
const PEOPLE_MAX = 50;

/** The largest size of a picture in CSS pixels. One of unknown size takes all of it. */
const PICTURE_MAX = { width: 400, height: 300 };
const CARD_HEIGHT = 52;
const PLAYER_HEIGHT = 54;

export const START_KEY = 'start';

/** The space reserved for a picture before it is loaded, so that nothing moves afterwards. */
export function pictureSize({ width, height }: MessageFile): { width: number; height: number } {
  if (width <= 0 || height <= 0) return PICTURE_MAX;
  const scale = Math.min(1, PICTURE_MAX.width / width, PICTURE_MAX.height / height);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** The height of a message's files. */
export function filesHeight(files: readonly MessageFile[]): number {
  let height = 0;
  for (const file of files) {
    const picture = file.kind === 'image' || file.kind === 'video' ? pictureSize(file).height : 0;
    height += 8 + (file.kind === 'image' ? Math.max(picture, CARD_HEIGHT) : picture + CARD_HEIGHT);
    if (file.kind === 'audio') height += PLAYER_HEIGHT;
  }
  return height;
}

/** A rough height of a message, close enough to keep the scroll bar steady. */
function estimate(body: string, files: readonly MessageFile[], isGrouped: boolean): number {
  let height = isGrouped ? 4 : 36;
  if (body) for (const line of body.slice(0, 4_000).split('\n')) height += 24 * Math.max(1, Math.ceil(line.length / 90));
  return height + filesHeight(files);
}

export function itemsOf(
  rows: readonly Row[],
  pending: readonly Pending[],
  viewer: string,
  isFirstNew: (row: Row, before: Row | undefined) => boolean,
): Item[] {
  const now = Date.now();
  const items: Item[] = [{ key: START_KEY, kind: 'start', estimatedHeight: 96, isFirstNew: false, isGrouped: false }];
  let before: Row | undefined;
  for (const row of rows) {
    if (!isShown(row, now)) continue;
    const day = before && dayOf(before.at) === dayOf(row.at) ? undefined : dayOf(row.at);
    const isNew = isFirstNew(row, before);
    const last = items.at(-1);
    const isPeople = row.kind === 'joined' || row.kind === 'left';
    const separatorHeight = (day === undefined ? 0 : 48) + (isNew ? 32 : 0);
    if (isPeople && last?.kind === 'people' && day === undefined && last.rows && last.rows.length < PEOPLE_MAX) {
      last.rows = [...last.rows, row];
    } else if (isPeople) {
      items.push({ key: row.id, kind: 'people', rows: [row], day, isFirstNew: isNew, isGrouped: false, estimatedHeight: 32 + separatorHeight });
    } else if (row.kind === 'message') {
      const isGrouped =
        day === undefined && !isNew && before?.kind === 'message' && before.actor === row.actor && row.at - before.at < GROUP_MS;
      const estimatedHeight = estimate(row.body ?? '', row.files, isGrouped) + separatorHeight;
      items.push({ key: row.id, kind: 'message', row, day, isFirstNew: isNew, isGrouped, estimatedHeight });
    } else {
      items.push({ key: row.id, kind: 'notice', row, day, isFirstNew: isNew, isGrouped: false, estimatedHeight: 32 + separatorHeight });
    }
    before = row;
  }
  for (const one of pending) {
    const day = before && dayOf(before.at) === dayOf(one.madeAt) ? undefined : dayOf(one.madeAt);
    const isGrouped =
      day === undefined && before?.kind === 'message' && before.actor === viewer && one.madeAt - before.at < GROUP_MS;
    items.push({ key: one.key, kind: 'pending', pending: one, day, isFirstNew: false, isGrouped, estimatedHeight: estimate(one.body, one.shownFiles, isGrouped) });
    before = rowOfPending(one.key, viewer, one.madeAt, one.body);
  }
  return items;
}

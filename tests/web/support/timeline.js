// A room's timeline as people see it.
import { PATIENCE_MS, until } from './wait.js';

/** Where the rows on screen are, by their ids. */
export const positions = (guest) =>
  guest.timeline.evaluate((scroller) => {
    const { top, bottom } = scroller.getBoundingClientRect();
    return [...scroller.querySelectorAll('.item')]
      .map((node) => ({ key: node.dataset.key, at: node.getBoundingClientRect() }))
      .filter(({ at }) => at.bottom > top && at.top < bottom)
      .map(({ key, at }) => [key, at.top - top]);
  });

/** Waits until nothing moves any more. */
export async function settle(guest) {
  let before = '';
  await until('the timeline rests', PATIENCE_MS, async () => {
    const now = JSON.stringify(await positions(guest));
    const rests = now === before && !(await guest.timeline.getByText('Loading earlier messages…').isVisible());
    before = now;
    return rests && now !== '[]';
  });
}

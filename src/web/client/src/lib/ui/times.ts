// Times as texts in the user's language. The formatters are kept, because creating one costs more than using it.
const time = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dated = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

export const timeText = (at: number): string => time.format(at);
/** A day of the next weeks: “Friday, 4 December”. */
export const weekdayText = (at: number): string => weekday.format(at);
export const fullText = (at: number): string => full.format(at);

const midnight = (at: number): number => new Date(at).setHours(0, 0, 0, 0);

let lastAt = 0;
let lastDay = 0;

/** The day of a time, as a number that is the same for all times of that day. */
export function dayOf(at: number): number {
  // Neighbouring rows are nearly always of the same day.
  if (at >= lastDay && at < lastDay + 3_600_000 * 22 && lastAt) return lastDay;
  lastAt = at;
  lastDay = midnight(at);
  return lastDay;
}

export function dayText(at: number, now = Date.now()): string {
  const day = midnight(at);
  const today = midnight(now);
  if (day === today) return 'Today';
  if (day === midnight(today - 12 * 3_600_000)) return 'Yesterday';
  return today - day < 300 * 86_400_000 ? weekday.format(at) : dated.format(at);
}

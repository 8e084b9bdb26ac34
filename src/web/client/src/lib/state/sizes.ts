// Sizes of files as texts. A kilobyte has 1,024 bytes here, as in the server's settings.
const UNITS = ['bytes', 'KB', 'MB', 'GB', 'TB'];

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

export function sizeText(bytes: number): string {
  let [value, unit] = [bytes, 0];
  // What would be rounded to 1,024 is one of the next unit.
  while (value >= 1_023.5 && unit < UNITS.length - 1) [value, unit] = [value / 1_024, unit + 1];
  if (bytes === 1) return '1 byte';
  // No fraction where it says nothing.
  return `${number.format(value >= 100 ? Math.round(value) : value)} ${UNITS[unit]}`;
}

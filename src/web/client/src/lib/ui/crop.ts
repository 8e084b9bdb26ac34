// Which square of a picture becomes an avatar.

/**
 * The square in pixels of the picture. `zoom` is 1 for the largest square and more for smaller ones; `x` and `y` say
 * where it lies, from 0 (left, top) to 1.
 */
export function cropOf({ width, height }: { width: number; height: number }, zoom: number, x: number, y: number) {
  const side = Math.min(width, height) / zoom;
  return { left: (width - side) * x, top: (height - side) * y, side };
}

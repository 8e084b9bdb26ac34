// Which part of a picture is kept.

/** Pixels. */
export interface Size {
  width: number;
  height: number;
}

/**
 * A part of the picture in the proportions of `shape`, in pixels of the picture. `zoom` is 1 for the largest part and
 * more for smaller ones; `x` and `y` say where it lies, from 0 (left, top) to 1.
 */
export function cropOf(picture: Size, shape: Size, zoom: number, x: number, y: number) {
  const scale = Math.min(picture.width / shape.width, picture.height / shape.height) / zoom;
  const [width, height] = [shape.width * scale, shape.height * scale];
  return { left: (picture.width - width) * x, top: (picture.height - height) * y, width, height };
}

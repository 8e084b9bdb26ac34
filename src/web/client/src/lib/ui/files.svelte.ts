// The component that shows files, once it is loaded: it is needed only for messages with files. Later messages are
// drawn with it at once, so nothing moves when they appear.
type Part = typeof import('./Files.svelte').default;

let part = $state.raw<Part>();
let isRequested = false;

/** The component; `undefined` while it is being loaded. */
export function files(): Part | undefined {
  if (!isRequested) {
    isRequested = true;
    import('./Files.svelte').then(
      (module) => (part = module.default),
      () => (isRequested = false),
    );
  }
  return part;
}

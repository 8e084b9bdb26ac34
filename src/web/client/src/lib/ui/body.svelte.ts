// Puts a message's text into the page: plain at first, as Markdown once the parser is loaded, if the text needs it.
import type { Attachment } from 'svelte/attachments';
import type { Context } from './markdown';

type Renderer = typeof import('./markdown');

let renderer = $state.raw<Renderer>();
let isRequested = false;

/** Matches every text that could look different as Markdown. */
const MAYBE_MARKDOWN = /[*_`\\@|]|~~|\]\(|&#?\w+;|https?:|mailto:|^(?:\s|>|[-+=]|#{1,6}(?:\s|$)|\d+[.)])/im;

function loadRenderer() {
  if (isRequested) return;
  isRequested = true;
  import('./markdown').then(
    (module) => (renderer = module),
    () => (isRequested = false),
  );
}

export function body(text: string, context: Context): Attachment<HTMLElement> {
  return (node) => {
    const isMarkdown = MAYBE_MARKDOWN.test(text);
    if (isMarkdown) loadRenderer();
    node.replaceChildren(isMarkdown && renderer ? renderer.render(text, context) : text);
  };
}

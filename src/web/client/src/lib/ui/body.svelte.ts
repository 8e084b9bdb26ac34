// A message's text in the page: plain at once, as Markdown when the text needs it and the parser is there.
import type { Attachment } from 'svelte/attachments';
import type { Context } from './markdown';

type Renderer = typeof import('./markdown');

let renderer = $state.raw<Renderer>();
let isAsked = false;

/** Whether the text could look different as Markdown. */
const NEEDS = /[*_`\\@|]|~~|\]\(|&#?\w+;|https?:|mailto:|^(?:\s|>|[-+=]|#{1,6}(?:\s|$)|\d+[.)])/im;

function ask() {
  if (isAsked) return;
  isAsked = true;
  import('./markdown').then(
    (module) => (renderer = module),
    () => (isAsked = false),
  );
}

export function body(text: string, context: Context): Attachment<HTMLElement> {
  return (node) => {
    const isMarkdown = NEEDS.test(text);
    if (isMarkdown) ask();
    node.replaceChildren(isMarkdown && renderer ? renderer.render(text, context) : text);
  };
}

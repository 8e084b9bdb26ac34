// A message's text in the page: plain at once, as Markdown when the text needs it and the parser is there.
import type { Attachment } from 'svelte/attachments';
import type { Context } from './markdown';

type Renderer = typeof import('./markdown');

let renderer = $state.raw<Renderer>();
let isAsked = false;

/** Whether the text could look different as Markdown. */
const NEEDS = /[*_`~[\\@]|https?:\/\/|^ {0,3}(?:#{1,3} |>|[-+] |\d+[.)] |-{3})/im;

function ask() {
  if (isAsked) return;
  isAsked = true;
  import('./markdown').then(
    (module) => (renderer = module),
    () => (isAsked = false),
  );
}

/** Called when there is time: the first message that needs it should not wait. */
export const prepareMarkdown = ask;

export function body(text: string, context: Context): Attachment<HTMLElement> {
  return (node) => {
    if (NEEDS.test(text)) ask();
    if (renderer && NEEDS.test(text)) node.replaceChildren(renderer.render(text, context));
    else node.textContent = text;
    node.classList.toggle('plain', !(renderer && NEEDS.test(text)));
  };
}

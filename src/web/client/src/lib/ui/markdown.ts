// Turns the Markdown of messages into DOM nodes. markdown-it parses the text; each of its tokens becomes a node, so
// text never becomes HTML, and links have only safe addresses. Loaded when a text first needs it.
import './markdown.css';
import MarkdownIt, { type StateInline, type Token } from 'markdown-it';

const ADDRESS = /^(?:https?:\/\/|mailto:)/i;
/** Nested elements. A text that nests deeper is shown as it was typed. */
const DEPTH_MAX = 16;
/** markdown-it fills up short rows of a table, so that 10,000 bytes could make 65,536 cells. */
const CELLS_MAX = 2_500;
const HANDLE = /@([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)/y;

export interface Context {
  /** The display name for somebody's handle; `undefined` if nobody has it, which leaves plain text. */
  mention(handle: string): { name: string; isViewer: boolean } | undefined;
}

/** Normalises an address; `undefined` if a link must not lead to it. */
export function safeAddress(text: string): string | undefined {
  // A browser drops control characters and white space, so `java\nscript:` would pass a naive check.
  if (!ADDRESS.test(text) || /[\u0000-\u0020\u007f]/.test(text)) return undefined;
  try {
    const url = new URL(text);
    return url.username || url.password ? undefined : url.href;
  } catch {
    return undefined;
  }
}

function mention(state: StateInline, silent: boolean): boolean {
  HANDLE.lastIndex = state.pos;
  const handle = HANDLE.exec(state.src)?.[1];
  if (!handle || state.linkLevel > 0 || /[A-Za-z0-9]/.test(state.src[state.pos - 1] ?? '')) return false;
  const who = (state.env.context as Context).mention(handle);
  if (!who) return false;
  if (!silent) Object.assign(state.push('mention', 'span', 0), { content: `@${who.name}`, meta: who });
  state.pos += 1 + handle.length;
  return true;
}

function parserWithout(...rules: string[]) {
  // The parser drops what nests deeper. One level more than is drawn shows that there is such a text.
  const parser = new MarkdownIt({ linkify: true, maxNesting: DEPTH_MAX + 1 });
  // Reference definitions would vanish from the text, and with them a message like `[10:32]: hello`.
  parser.disable(['reference', ...rules]);
  parser.inline.ruler.push('mention', mention);
  // Recognises an address with a user name as a whole, so that it can be rejected.
  parser.linkify.set({ fuzzyEmail: false, urlAuth: true });
  parser.validateLink = (address) => safeAddress(address) !== undefined;
  // An address is shown as it was typed.
  parser.normalizeLink = parser.normalizeLinkText = (address) => address;
  return parser;
}

const full = parserWithout();
const withoutTables = parserWithout('table');

function parse(text: string, context: Context): Token[] {
  const lines = text.split(/\r\n?|\n/);
  const columns = lines.reduce((most, line) => Math.max(most, line.split('|').length), 0);
  const parser = columns * lines.length > CELLS_MAX ? withoutTables : full;
  return parser.parse(text, { context }).flatMap((one) => (one.type === 'inline' ? (one.children ?? []) : one));
}

function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

function attribute(token: Token, name: string): string {
  return String(token.attrGet(name) ?? '');
}

function link(address: string, ...children: string[]): HTMLElement {
  const node = element('a', ...children);
  node.href = safeAddress(address) ?? '';
  node.target = '_blank';
  node.rel = 'noopener noreferrer nofollow';
  return node;
}

/** A box that scrolls sideways. It takes the focus, so that keys can scroll it. */
function wide(node: HTMLElement, content: HTMLElement): HTMLElement {
  node.append(content);
  node.tabIndex = 0;
  return node;
}

function nodeOf(token: Token, isInLink: boolean): Node {
  switch (token.type) {
    case 'text':
      return document.createTextNode(token.content);
    case 'softbreak':
    case 'hardbreak':
      return element('br');
    case 'code_inline':
      return element('code', token.content);
    case 'fence':
    case 'code_block':
      return wide(element('pre'), element('code', token.content.replace(/\n$/, '')));
    case 'table_open':
      return wide(Object.assign(element('div'), { className: 'table' }), element('table'));
    case 'link_open':
      return link(attribute(token, 'href'));
    case 'image': {
      // An image becomes a link: nothing is fetched from elsewhere without a click.
      const address = attribute(token, 'src');
      const shown = token.content || address;
      return isInLink ? document.createTextNode(shown) : link(address, shown);
    }
    case 'mention':
      return Object.assign(element('span', token.content), {
        className: token.meta?.isViewer ? 'mention me' : 'mention',
      });
    case 'heading_open':
      // Not a heading of the page, so a paragraph in bold.
      return Object.assign(element('p'), { className: `h${Math.min(3, Number(token.tag[1]))}` });
    case 's_open':
      return element('del');
    default: {
      // A tag name from markdown-it's own list, since raw HTML is disabled.
      const node = document.createElement(token.tag);
      if (node instanceof HTMLOListElement) node.start = Number(attribute(token, 'start') || 1);
      // As in `text-align:right`; the content policy forbids the attribute itself.
      if (node instanceof HTMLTableCellElement) node.style.textAlign = attribute(token, 'style').split(':')[1] ?? '';
      return node;
    }
  }
}

/** The nodes to show for `text`, or the text itself if it nests too deep. */
export function render(text: string, context: Context): DocumentFragment | string {
  const fragment = document.createDocumentFragment();
  const open: Node[] = [];
  for (const token of parse(text, context)) {
    const parent = open.at(-1) ?? fragment;
    if (token.nesting < 0) {
      open.pop();
      // A link without text shows its address.
      if (parent instanceof HTMLAnchorElement && !parent.hasChildNodes()) parent.append(parent.href);
      continue;
    }
    if (token.hidden) {
      // The paragraph of an item in a tight list has no element of its own.
      open.push(parent);
    } else {
      const node = parent.appendChild(nodeOf(token, open.some((one) => one instanceof HTMLAnchorElement)));
      // For a table, children go into the table inside the box.
      if (token.nesting > 0) open.push(node.firstChild ?? node);
    }
    if (open.length > DEPTH_MAX) return text;
  }
  return fragment;
}

// Markdown of messages → DOM nodes. markdown-it reads the text; its tokens become nodes one by one, so text never
// becomes HTML, and links lead only where people expect. Loaded when a text first needs it.
import MarkdownIt, { type StateInline, type Token } from 'markdown-it';

const ADDRESS = /^(?:https?:\/\/|mailto:)/i;
/** Elements inside each other. A text that asks for more is shown as it was typed. */
const DEPTH_MAX = 16;
/** markdown-it fills short rows of a table up: 10,000 bytes could ask for 65,536 cells. */
const CELLS_MAX = 2_500;
const HANDLE = /@([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)/y;

export interface Context {
  /** The shown name for a handle that somebody carries; `undefined` for plain text. */
  mention(handle: string): { name: string; isViewer: boolean } | undefined;
}

/** The address when it is one that a click may follow. */
export function safeAddress(text: string): string | undefined {
  // A browser drops control characters and white space, so `java\nscript:` would pass a naive look.
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
  // It leaves out what nests deeper; one more than is shown tells that.
  const parser = new MarkdownIt({ linkify: true, maxNesting: DEPTH_MAX + 1 });
  // Definitions would vanish from the text, and with them a message like `[10:32]: hello`.
  parser.disable(['reference', ...rules]);
  parser.inline.ruler.push('mention', mention);
  // An address with a user name is seen whole, and refused.
  parser.linkify.set({ fuzzyEmail: false, urlAuth: true });
  parser.validateLink = (address) => safeAddress(address) !== undefined;
  // What is read is what was typed.
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

/** A box that scrolls sideways: keys must reach it. */
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
      // Nothing is fetched from elsewhere until somebody asks for it.
      const address = attribute(token, 'src');
      const shown = token.content || address;
      return isInLink ? document.createTextNode(shown) : link(address, shown);
    }
    case 'mention':
      return Object.assign(element('span', token.content), {
        className: token.meta?.isViewer ? 'mention me' : 'mention',
      });
    case 'heading_open':
      // Not a heading of the page: bold text of a message.
      return Object.assign(element('p'), { className: `h${Math.min(3, Number(token.tag[1]))}` });
    case 's_open':
      return element('del');
    default: {
      // A name out of markdown-it's own list: it knows no raw HTML here.
      const node = document.createElement(token.tag);
      if (node instanceof HTMLOListElement) node.start = Number(attribute(token, 'start') || 1);
      // As in `text-align:right`; the content policy forbids the attribute itself.
      if (node instanceof HTMLTableCellElement) node.style.textAlign = attribute(token, 'style').split(':')[1] ?? '';
      return node;
    }
  }
}

/** What to show in the place of `text`: nodes, or the text itself when it nests too deep. */
export function render(text: string, context: Context): DocumentFragment | string {
  const fragment = document.createDocumentFragment();
  const open: Node[] = [];
  for (const token of parse(text, context)) {
    const parent = open.at(-1) ?? fragment;
    if (token.nesting < 0) {
      open.pop();
      // A link without words would hide where it leads.
      if (parent instanceof HTMLAnchorElement && !parent.hasChildNodes()) parent.append(parent.href);
      continue;
    }
    if (token.hidden) {
      // The paragraph of a tight list's item is no box of its own.
      open.push(parent);
    } else {
      const node = parent.appendChild(nodeOf(token, open.some((one) => one instanceof HTMLAnchorElement)));
      // What comes goes into the table, not its frame.
      if (token.nesting > 0) open.push(node.firstChild ?? node);
    }
    if (open.length > DEPTH_MAX) return text;
  }
  return fragment;
}

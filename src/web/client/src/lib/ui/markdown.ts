// Markdown of messages → DOM nodes, built one by one: text never becomes HTML, links lead only where people
// expect. Time is linear in the text's length whatever it holds. Loaded when a text first needs it.

const LINK = /^(?:https?:\/\/|mailto:)/i;
/** Nested quotes, lists and emphasis beyond this are plain text. */
const DEPTH_MAX = 8;
const PUNCTUATION = /[!-/:-@[-`{-~]/;

/** The address when it is one that a click may follow. */
export function safeAddress(text: string): string | undefined {
  // A browser drops control characters and white space, so `java\nscript:` would pass a naive look.
  if (!LINK.test(text) || /[\u0000-\u0020\u007f]/.test(text)) return undefined;
  try {
    const url = new URL(text);
    return url.username || url.password ? undefined : url.href;
  } catch {
    return undefined;
  }
}

function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

function link(address: string, ...children: (Node | string)[]): HTMLElement {
  const node = element('a', ...children);
  node.href = address;
  node.target = '_blank';
  node.rel = 'noopener noreferrer nofollow';
  return node;
}

export interface Context {
  /** The shown name for a handle that somebody carries; `undefined` for plain text. */
  mention(handle: string): { name: string; isViewer: boolean } | undefined;
}

export function render(text: string, context: Context): DocumentFragment {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.replace(/\r\n?/g, '\n').split('\n'), context, 0));
  return fragment;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^(#{1,3}) +(\S.*)$/;
const QUOTE = /^ {0,3}> ?/;
const BULLET = /^( {0,3})[-*+] +(?=\S)/;
const NUMBER = /^( {0,3})(\d{1,6})[.)] +(?=\S)/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;

function blocks(lines: readonly string[], context: Context, depth: number): Node[] {
  const out: Node[] = [];
  let paragraph: string[] = [];
  const flush = () => {
    while (paragraph.at(-1)?.trim() === '') paragraph.pop();
    if (paragraph.length > 0) out.push(element('p', ...inline(paragraph.join('\n'), context)));
    paragraph = [];
  };
  for (let i = 0; i < lines.length; ) {
    const line = lines[i] ?? '';
    const fence = FENCE.exec(line);
    if (fence) {
      flush();
      i = code(lines, i, fence[1] ?? '', out);
      continue;
    }
    if (line.trim() === '') {
      flush();
      i += 1;
      continue;
    }
    const heading = HEADING.exec(line);
    if (heading) {
      flush();
      // Not a heading of the page: bold text of a message.
      const node = element('p', ...inline(heading[2] ?? '', context));
      node.className = `h${heading[1]?.length ?? 1}`;
      out.push(node);
      i += 1;
    } else if (RULE.test(line)) {
      flush();
      out.push(element('hr'));
      i += 1;
    } else if (depth < DEPTH_MAX && QUOTE.test(line)) {
      flush();
      const inner: string[] = [];
      for (; i < lines.length && QUOTE.test(lines[i] ?? ''); i += 1) inner.push((lines[i] ?? '').replace(QUOTE, ''));
      out.push(element('blockquote', ...blocks(inner, context, depth + 1)));
    } else if (depth < DEPTH_MAX && (BULLET.test(line) || NUMBER.test(line))) {
      flush();
      i = list(lines, i, context, depth, out);
    } else {
      paragraph.push(line);
      i += 1;
    }
  }
  flush();
  return out;
}

function code(lines: readonly string[], start: number, mark: string, out: Node[]): number {
  const inner: string[] = [];
  let i = start + 1;
  for (; i < lines.length; i += 1) {
    const line = (lines[i] ?? '').trim();
    if (line.length >= mark.length && line === (mark[0] ?? '').repeat(line.length)) break;
    inner.push(lines[i] ?? '');
  }
  const node = element('pre', element('code', inner.join('\n')));
  // It scrolls sideways: keys must reach it.
  node.tabIndex = 0;
  out.push(node);
  return i + 1;
}

function list(lines: readonly string[], start: number, context: Context, depth: number, out: Node[]): number {
  const ordered = NUMBER.exec(lines[start] ?? '');
  const mark = ordered ? NUMBER : BULLET;
  const node = document.createElement(ordered ? 'ol' : 'ul');
  if (ordered && node instanceof HTMLOListElement) node.start = Number(ordered[2]);
  let i = start;
  while (i < lines.length) {
    const found = mark.exec(lines[i] ?? '');
    if (!found) break;
    const width = found[0].length;
    const inner = [(lines[i] ?? '').slice(width)];
    // What is indented below an item belongs to it.
    for (i += 1; i < lines.length && /^ {2,}\S/.test(lines[i] ?? ''); i += 1) {
      inner.push((lines[i] ?? '').replace(/^ +/, (spaces) => spaces.slice(Math.min(width, spaces.length))));
    }
    const content = blocks(inner, context, depth + 1);
    // One paragraph needs no frame of its own.
    const [first, ...rest] = content;
    const item = first instanceof HTMLParagraphElement && !first.className ? [...first.childNodes, ...rest] : content;
    node.append(element('li', ...item));
  }
  out.push(node);
  return i;
}

/** Marks that can be open: the text they enclose is not closed yet. */
interface Open {
  mark: string;
  at: number;
}

const EMPHASIS: Record<string, 'em' | 'strong' | 'del'> = { '*': 'em', _: 'em', '**': 'strong', __: 'strong', '~~': 'del' };

function inline(text: string, context: Context): (Node | string)[] {
  const out: (Node | string)[] = [];
  const opened: Open[] = [];
  let plain = '';
  const flush = () => {
    if (plain) out.push(plain);
    plain = '';
  };
  const push = (node: Node) => {
    flush();
    out.push(node);
  };
  const none = new Set<string>();
  for (let i = 0; i < text.length; ) {
    const c = text[i] ?? '';
    const before = text[i - 1] ?? ' ';
    if (c === '\\' && PUNCTUATION.test(text[i + 1] ?? '')) {
      plain += text[i + 1];
      i += 2;
    } else if (c === '`') {
      const marks = /^`+/.exec(text.slice(i, i + 32))?.[0] ?? '`';
      const end = none.has(marks) ? -1 : text.indexOf(marks, i + marks.length);
      if (end < 0) {
        // It is not looked for again: that would cost the square of the length.
        none.add(marks);
        plain += marks;
        i += marks.length;
      } else {
        push(element('code', text.slice(i + marks.length, end).replace(/\n/g, ' ')));
        i = end + marks.length;
      }
    } else if (c === '*' || c === '_' || (c === '~' && text[i + 1] === '~')) {
      const mark = text[i + 1] === c ? c + c : c;
      const after = text[i + mark.length] ?? ' ';
      const inWord = c === '_' && /\w/.test(before) && /\w/.test(after);
      const open = inWord ? -1 : opened.findLastIndex((one) => one.mark === mark);
      if (open >= 0 && !/\s/.test(before)) {
        flush();
        const children = out.splice(opened[open]?.at ?? 0).slice(1);
        opened.length = open;
        if (children.length > 0) out.push(element(EMPHASIS[mark] ?? 'em', ...children));
        else out.push(mark + mark);
      } else if (!inWord && !/\s/.test(after) && opened.length < DEPTH_MAX) {
        flush();
        opened.push({ mark, at: out.length });
        out.push(mark);
      } else {
        plain += mark;
      }
      i += mark.length;
    } else if (c === '[') {
      const found = /^\[([^[\]\n]{1,500})\]\(([^()\s]{1,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,500})?)\)/.exec(text.slice(i, i + 3300));
      const address = found && safeAddress(found[2] ?? '');
      if (found && address) {
        push(link(address, found[1] ?? ''));
        i += found[0].length;
      } else {
        plain += c;
        i += 1;
      }
    } else if ((c === 'h' || c === 'H') && !/[A-Za-z0-9]/.test(before)) {
      const found = /^https?:\/\/[^\s<>"`]{1,2000}/i.exec(text.slice(i, i + 2010))?.[0];
      const shown = found && trimAddress(found);
      const address = shown && safeAddress(shown);
      if (shown && address) {
        push(link(address, shown));
        i += shown.length;
      } else {
        plain += c;
        i += 1;
      }
    } else if (c === '@' && !/[A-Za-z0-9]/.test(before)) {
      const handle = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*/.exec(text.slice(i + 1, i + 34))?.[0] ?? '';
      const who = handle && context.mention(handle);
      if (who) {
        const node = element('span', `@${who.name}`);
        node.className = who.isViewer ? 'mention me' : 'mention';
        push(node);
      } else {
        plain += c + handle;
      }
      i += 1 + handle.length;
    } else if (c === '\n') {
      push(element('br'));
      i += 1;
    } else {
      plain += c;
      i += 1;
    }
  }
  flush();
  return out;
}

/** Without the end of the sentence an address stands in. */
function trimAddress(text: string): string {
  let address = text.replace(/[.,;:!?'"*_~]+$/, '');
  while (address.endsWith(')') && (address.match(/\(/g)?.length ?? 0) < (address.match(/\)/g)?.length ?? 0)) {
    address = address.slice(0, -1).replace(/[.,;:!?'"*_~]+$/, '');
  }
  return address;
}

// What a message's Markdown becomes in the page.
import assert from 'node:assert/strict';
import { scenario, SIZES } from './support/fixture.js';
import { until } from './support/wait.js';

const a = (href, text = href) => `<a href="${href}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;
const p = (content) => `<p>${content}</p>`;
const pre = (code) => `<pre tabindex="0"><code>${code}</code></pre>`;
const grace = '<span class="mention">@Grace Hopper</span>';

const CASES = [
  // Shown as typed, without the parser.
  ['5 > 3, R&D, #general, a  b: x = y + z (no) [no] ~1 {x} 1.5 http', '5 &gt; 3, R&amp;D, #general, a  b: x = y + z (no) [no] ~1 {x} 1.5 http'],
  ['one\ntwo - three', 'one\ntwo - three'],
  // Emphasis.
  ['*a **b** c* __d__ ~~e *f*~~', p('<em>a <strong>b</strong> c</em> <strong>d</strong> <del>e <em>f</em></del>')],
  ['***a** b* snake_case_name 2*3*4 a * b ~c~', p('<em><strong>a</strong> b</em> snake_case_name 2<em>3</em>4 a * b ~c~')],
  ['**open `*` and \\*escaped\\* &lt; &copy; &nosuch;', p('**open <code>*</code> and *escaped* &lt; © &amp;nosuch;')],
  ['``a ` b`` `c\nd`', p('<code>a ` b</code> <code>c d</code>')],
  // Lines and blocks.
  ['**a**\nb  \nc\n\nd', p('<strong>a</strong><br>b<br>c') + p('d')],
  ['# A\n### B\n##### C\nD\n---\n***', '<p class="h1">A</p><p class="h3">B</p><p class="h3">C</p><p class="h2">D</p><hr>'],
  ['> a\nlazy\n>> b\n\nc', `<blockquote>${p('a<br>lazy')}<blockquote>${p('b')}</blockquote></blockquote>${p('c')}`],
  ['- a\n  - b\n    1. c\n- d\n\n+ e', '<ul><li>a<ul><li>b<ol start="1"><li>c</li></ol></li></ul></li><li>d</li></ul><ul><li>e</li></ul>'],
  ['3) a\n\n   b\n4) c', `<ol start="3"><li>${p('a')}${p('b')}</li><li>${p('c')}</li></ol>`],
  ['```js x\nif (a < b) *c*\n\n  @grace\n```\nafter', pre('if (a &lt; b) *c*\n\n  @grace') + p('after')],
  ['    indented\n\n~~~\nnever closed', pre('indented') + pre('never closed')],
  ['- ```\n  code\n  ```', `<ul><li>${pre('code')}</li></ul>`],
  [
    'a | *b*\n:-|-:\n1 | `x\\|y`\n2',
    '<div class="table" tabindex="0"><table><thead><tr><th style="text-align: left;">a</th><th style="text-align: right;"><em>b</em></th></tr></thead>' +
      '<tbody><tr><td style="text-align: left;">1</td><td style="text-align: right;"><code>x|y</code></td></tr>' +
      '<tr><td style="text-align: left;">2</td><td style="text-align: right;"></td></tr></tbody></table></div>',
  ],
  // Links.
  [
    '(see https://example.org/a_b_(c)?d=*e*&f), https://example.org/x. **HTTP://example.org/y**! mailto:a@example.org',
    p(`(see ${a('https://example.org/a_b_(c)?d=*e*&amp;f')}), ${a('https://example.org/x')}. <strong>${a('http://example.org/y', 'HTTP://example.org/y')}</strong>! ${a('mailto:a@example.org')}`),
  ],
  ['[a *b* @grace](https://example.org/ "title") <https://example.org/c> `https://example.org/`', p(`${a('https://example.org/', 'a <em>b</em> @grace')} ${a('https://example.org/c')} <code>https://example.org/</code>`)],
  ['![a cat](https://example.org/cat.png) ![](https://example.org/dog.png) []( https://example.org/)', p(`${a('https://example.org/cat.png', 'a cat')} ${a('https://example.org/dog.png')} ${a('https://example.org/')}`)],
  ['[![a badge](https://example.org/b.svg)](https://example.org/)', p(a('https://example.org/', 'a badge'))],
  ['www.example.org a@example.org ftp://example.org //example.org [a](/b) [c](ftp://d) [e][f]', p('www.example.org a@example.org ftp://example.org //example.org [a](/b) [c](ftp://d) [e][f]')],
  ['https://ada@example.org/ http://[::1]:4000/a http://localhost http://intranet/;', p(`https://ada@example.org/ ${a('http://[::1]:4000/a')} ${a('http://localhost/', 'http://localhost')} ${a('http://intranet/')};`)],
  ['[e]: https://example.org/', p(`[e]: ${a('https://example.org/')}`)],
  ['https://xn--e1afmkfd.example/%41', p(a('https://xn--e1afmkfd.example/%41'))],
  // What only looks like HTML.
  ['<b>*x*</b><br>\n\n<div>\n\n<!-- y -->', p('&lt;b&gt;<em>x</em>&lt;/b&gt;&lt;br&gt;') + p('&lt;div&gt;') + p('&lt;!-- y --&gt;')],
  // People.
  ['**@grace**, (@GRACE) x@grace \\@grace `@grace` @nobody', p(`<strong>${grace}</strong>, (${grace}) x@grace @grace <code>@grace</code> @nobody`)],
  ['> - @grace', `<blockquote><ul><li>${grace}</li></ul></blockquote>`],
];

/** Deeper than anybody writes: shown as typed, whether blocks or emphasis nest. */
const DEEP = [`${'> '.repeat(40)}x`, `${'- '.repeat(12)}x`, `${'*a _b '.repeat(12)}x${'_*'.repeat(12)}`];

scenario('Markdown as people write it, and its limits', async ({ server, open }) => {
  const owner = await server.owner();
  const room = await server.join(owner, 'general');
  await server.join(await server.person(owner, 'grace', 'Grace Hopper'), 'general');
  const ada = await open();
  await ada.login('ada');
  await ada.composer.waitFor();
  const bodyOf = ({ id }, guest = ada) => guest.timeline.locator('.message', { has: guest.page.locator(`a.time[href$="${id}"]`) }).locator('.body');
  const html = (body) => body.evaluate((node) => node.innerHTML);
  const chunks = () => ada.page.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => /\/markdown\./.test(name)).length);

  for (const [index, [text, expected]] of CASES.entries()) {
    const body = bodyOf(await server.post(owner, room, text));
    if (index === 2) await body.locator('em').first().waitFor();
    assert.equal(await html(body), expected, text);
    if (index < 2) assert.equal(await chunks(), 0, 'nothing is loaded for a plain text');
  }
  await ada.inspect('markdown-desktop');

  for (const text of DEEP) {
    const body = bodyOf(await server.post(owner, room, text));
    assert.deepEqual(await body.evaluate((node) => [node.textContent, node.childElementCount]), [text, 0]);
  }
  const most = bodyOf(await server.post(owner, room, `${'> '.repeat(14)}*the deepest that is drawn*`));
  await most.locator('em').waitFor();

  // A wide table scrolls inside its message, also on a phone; one that would fill itself up stays text.
  const columns = Array.from({ length: 12 }, (_, n) => `column ${n}`).join(' | ');
  const wide = await server.post(owner, room, `${columns}\n${'-|'.repeat(12)}\n${columns}`);
  for (const end of ['\n', '\r']) {
    const huge = bodyOf(await server.post(owner, room, `${'a|'.repeat(100)}${end}${'-|'.repeat(100)}${end}${`|${end}`.repeat(300)}`));
    assert.equal(await huge.evaluate((node) => node.querySelectorAll('td, th').length), 0);
  }
  const phone = await open(SIZES.phone);
  await phone.login('ada');
  await phone.goto(`/chat/-/${room}/m/${wide.id}`);
  const table = bodyOf(wide, phone).locator('.table');
  await table.waitFor();
  await until('the table to scroll', 5_000, () => table.evaluate((node) => node.scrollWidth > node.clientWidth));
  assert.ok(await phone.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await phone.inspect('markdown-phone');
});

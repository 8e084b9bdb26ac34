// The page at "/setup#TOKEN": creates the account a setup or join link stands for. The token stays in
// memory, goes to our own server in request bodies alone, and leaves the address bar once it is used.
'use strict';

const byId = (id) => document.getElementById(id);
const FIELDS = ['login', 'displayName', 'password', 'email'];
const SECTIONS = ['checking', 'dead', 'asking', 'done'];
const token = location.hash.slice(1);
let link = { kind: 'owner', fixed: {} };

const show = (id) => {
  for (const section of SECTIONS) byId(section).hidden = section !== id;
  byId(id).querySelector('h1[tabindex]')?.focus();
};

// Every answer has a JSON body; what has none came from something between us and the server.
const post = async (path, body, headers = {}) => {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
    credentials: 'same-origin',
    cache: 'no-store',
  });
  const json = await answer.json().catch(() => ({}));
  if (answer.ok) return json;
  const error = new Error(json.error || `The server answered ${answer.status}.`);
  error.status = answer.status;
  const wait = Number(answer.headers.get('Retry-After'));
  if (wait > 0) error.message += ` Try again in ${wait} s.`;
  throw error;
};

const UNREACHABLE = 'The server cannot be reached. Check the connection and try again.';
const text = (error) => (error.status ? error.message : UNREACHABLE);

const dead = (reason, mayRetry) => {
  byId('dead-reason').textContent = reason;
  byId('again').hidden = !mayRetry;
  show('dead');
};

const check = async () => {
  if (!token) {
    dead('The address has no secret after the “#”. Copy the whole link and open it again.', false);
    return;
  }
  try {
    link = await post('/auth/setup/inspect', { token });
  } catch (error) {
    dead(text(error), !error.status || error.status >= 429);
    return;
  }
  ask();
};

const ask = () => {
  const server = link.serverName || 'Chatto';
  byId('server').textContent = server;
  const owner = link.kind === 'owner';
  byId('asking-title').textContent = owner ? 'Welcome, first owner' : `Join ${server}`;
  byId('asking-lead').textContent = owner
    ? 'This account may change everything on this server.'
    : 'Choose how others will know you.';
  for (const id of FIELDS) {
    const value = link.fixed?.[id];
    if (value === undefined || value === null) continue;
    byId(id).value = value;
    byId(id).readOnly = true;
    byId(`${id}-hint`)?.replaceChildren('Set by the link.');
  }
  show('asking');
  FIELDS.map(byId).find((input) => !input.readOnly)?.focus();
};

const wrong = (id, message) => {
  const input = byId(id);
  input.setAttribute('aria-invalid', message ? 'true' : 'false');
  byId(`${id}-wrong`).textContent = message;
  byId(`${id}-wrong`).hidden = !message;
  const hint = byId(`${id}-hint`);
  if (hint) hint.hidden = Boolean(message);
  return Boolean(message);
};

// The server decides; this only spares the obvious round trips.
const faults = () => {
  const login = byId('login').value.trim();
  const email = byId('email').value.trim();
  const length = [...byId('password').value].length;
  const found = {
    login: /^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,30}[A-Za-z0-9_-]$/.test(login)
      ? '' : '2 to 32 letters, digits, dots, dashes or underscores, starting with a letter or digit.',
    password: length >= 8 && length <= 128 ? '' : 'Between 8 and 128 characters.',
    email: !email || /^\S+@\S+$/.test(email) ? '' : 'This is not an e-mail address.',
    displayName: '',
  };
  const bad = FIELDS.filter((id) => wrong(id, byId(id).readOnly ? '' : found[id]));
  if (bad.length) byId(bad[0]).focus();
  return bad.length > 0;
};

const create = async (event) => {
  event.preventDefault();
  const failure = byId('failure');
  failure.hidden = true;
  if (faults()) return;
  const body = { token };
  for (const id of FIELDS) {
    const value = id === 'password' ? byId(id).value : byId(id).value.trim();
    if (value) body[id] = value;
  }
  const send = byId('send');
  send.disabled = true;
  send.textContent = 'Creating…';
  try {
    done(await post('/auth/setup', body));
  } catch (error) {
    failure.textContent = text(error);
    failure.hidden = false;
    if (error.status === 409) byId('login').focus();
  } finally {
    send.disabled = false;
    send.textContent = 'Create account';
  }
};

const done = ({ user }) => {
  history.replaceState(null, '', location.pathname);
  byId('form').reset();
  byId('done-login').textContent = user.login;
  byId('address').textContent = location.origin;
  byId('invite').hidden = link.kind !== 'owner';
  document.title = 'Welcome · Chatto';
  show('done');
};

const cookie = (name) =>
  document.cookie.split('; ').find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1) ?? '';

const makeLink = async () => {
  const button = byId('make-link');
  button.disabled = true;
  byId('link-wrong').hidden = true;
  try {
    const { url } = await post('/auth/join-links', {}, { 'X-CSRF-Token': cookie('chatto_csrf') });
    byId('link').textContent = url;
    byId('link-row').hidden = false;
    byId('link-local').hidden = !/^https?:\/\/(localhost|127\.|\[::1\])/.test(url);
    button.textContent = 'Make another';
  } catch (error) {
    byId('link-wrong').textContent = text(error);
    byId('link-wrong').hidden = false;
  } finally {
    button.disabled = false;
  }
};

byId('form').addEventListener('submit', create);
byId('again').addEventListener('click', () => { show('checking'); check(); });
byId('make-link').addEventListener('click', makeLink);
byId('reveal').addEventListener('click', () => {
  const input = byId('password');
  const reveals = input.type === 'password';
  input.type = reveals ? 'text' : 'password';
  byId('reveal').textContent = reveals ? 'Hide' : 'Show';
  byId('reveal').setAttribute('aria-pressed', String(reveals));
});
window.addEventListener('hashchange', () => location.reload());
if (navigator.clipboard) {
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    });
  }
}
check();

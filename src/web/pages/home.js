// The page at "/": shows the server's name and state. It needs no login and keeps nothing.
'use strict';

const byId = (id) => document.getElementById(id);
const origin = location.origin;

byId('address').textContent = origin;
byId('curl').textContent = byId('curl').textContent.replace('ADDRESS', origin);

if (navigator.clipboard) {
  const copy = byId('copy');
  copy.hidden = false;
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(origin);
    copy.textContent = 'Copied';
    setTimeout(() => { copy.textContent = 'Copy'; }, 2000);
  });
}

const showName = async () => {
  const answer = await fetch('/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{}',
    credentials: 'omit',
  });
  if (!answer.ok) return;
  const { profile } = await answer.json();
  if (!profile?.name) return;
  byId('name').textContent = profile.name;
  document.title = profile.name === 'Chatto' ? 'Chatto' : `${profile.name} · Chatto`;
};

const showState = async () => {
  try {
    const answer = await fetch('/readyz', { credentials: 'omit', cache: 'no-store' });
    const { reason } = await answer.json();
    byId('status').textContent = answer.ok ? 'up and ready' : `not ready (${String(reason).replaceAll('_', ' ')})`;
  } catch {
    byId('status').textContent = 'not reachable';
  }
};

showName().catch(() => {});
showState();

// The address bar as state. Paths are those of the contract (section 9).

export type Place =
  | { screen: 'start' }
  | { screen: 'login' }
  | { screen: 'browse' }
  | { screen: 'room'; roomId: string; messageId: string }
  | { screen: 'nowhere' };

const ID = '[A-Za-z0-9_-]{1,64}';
const ROOM = new RegExp(`^/chat/-/(${ID})(?:/m/(${ID}))?/?$`);

export function placeOf(path: string): Place {
  if (path === '/' || path === '/chat' || path === '/chat/') return { screen: 'start' };
  if (path === '/login') return { screen: 'login' };
  if (path === '/rooms') return { screen: 'browse' };
  const [, roomId, messageId = ''] = ROOM.exec(path) ?? [];
  return roomId ? { screen: 'room', roomId, messageId } : { screen: 'nowhere' };
}

export const roomPath = (roomId: string, messageId = ''): string =>
  `/chat/-/${roomId}${messageId && `/m/${messageId}`}`;

class Router {
  place = $state.raw<Place>(placeOf(location.pathname));

  constructor() {
    window.addEventListener('popstate', () => this.#look());
  }

  go(path: string) {
    if (path !== location.pathname) history.pushState(null, '', path);
    this.#look();
  }

  replace(path: string) {
    history.replaceState(null, '', path);
    this.#look();
  }

  #look() {
    this.place = placeOf(location.pathname);
  }
}

export const router = new Router();

/** For links: the browser's own ways (new tab, new window) stay. */
export function follow(event: MouseEvent) {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.currentTarget as HTMLAnchorElement | null)?.getAttribute('href');
  if (!link) return;
  event.preventDefault();
  router.go(link);
}

// The address bar as reactive state. The paths are those of the contract (section 9).

export type Route =
  | { screen: 'start' }
  | { screen: 'login' }
  | { screen: 'browse' }
  | { screen: 'room'; roomId: string; messageId: string }
  | { screen: 'not-found' };

const ID = '[A-Za-z0-9_-]{1,64}';
const ROOM = new RegExp(`^/chat/-/(${ID})(?:/m/(${ID}))?/?$`);

export function routeOf(path: string): Route {
  if (path === '/' || path === '/chat' || path === '/chat/') return { screen: 'start' };
  if (path === '/login') return { screen: 'login' };
  if (path === '/rooms') return { screen: 'browse' };
  const [, roomId, messageId = ''] = ROOM.exec(path) ?? [];
  return roomId ? { screen: 'room', roomId, messageId } : { screen: 'not-found' };
}

export const roomPath = (roomId: string, messageId = ''): string =>
  `/chat/-/${roomId}${messageId && `/m/${messageId}`}`;

class Router {
  route = $state.raw<Route>(routeOf(location.pathname));

  constructor() {
    window.addEventListener('popstate', () => this.#update());
  }

  go(path: string) {
    if (path !== location.pathname) history.pushState(null, '', path);
    this.#update();
  }

  replace(path: string) {
    history.replaceState(null, '', path);
    this.#update();
  }

  #update() {
    this.route = routeOf(location.pathname);
  }
}

export const router = new Router();

/** Click handler of links. Opening them in a new tab or window stays with the browser. */
export function followLink(event: MouseEvent) {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.currentTarget as HTMLAnchorElement | null)?.getAttribute('href');
  if (!link) return;
  event.preventDefault();
  router.go(link);
}

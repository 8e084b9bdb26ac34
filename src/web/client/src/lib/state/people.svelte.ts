// Everybody the client knows of. A person stays the same object, so that whatever shows it follows its changes.
import { PresenceStatus, type User } from '../api/gen/chatto/api/v1/users_pb';
import { imagePath } from '../api/images';

export type Presence = 'online' | 'away' | 'busy' | 'offline';

const PRESENCE: Record<number, Presence> = {
  [PresenceStatus.ONLINE]: 'online',
  [PresenceStatus.AWAY]: 'away',
  [PresenceStatus.DO_NOT_DISTURB]: 'busy',
};

export const presenceOf = (status: PresenceStatus): Presence => PRESENCE[status] ?? 'offline';

export class Person {
  login = $state('');
  displayName = $state('');
  isBot = $state(false);
  /** `''` for a person without a picture. */
  avatarUrl = $state('');
  isDeleted = $state(true);
  roles = $state.raw<readonly string[]>([]);
  presence = $state<Presence>('offline');

  constructor(readonly id: string) {}

  get name(): string {
    return this.isDeleted ? 'Deleted user' : this.displayName || this.login;
  }

  set(user: User) {
    this.login = user.login;
    this.displayName = user.displayName;
    this.isBot = user.isBot;
    this.avatarUrl = imagePath(user.avatarUrl);
    this.isDeleted = user.deleted;
  }
}

export class People {
  #all = new Map<string, Person>();

  get(id: string): Person {
    let person = this.#all.get(id);
    if (!person) {
      person = new Person(id);
      this.#all.set(id, person);
    }
    return person;
  }

  upsert(user: User, roles?: readonly string[]) {
    const person = this.get(user.id);
    person.set(user);
    person.presence = presenceOf(user.presenceStatus);
    if (roles) person.roles = roles;
  }

  /** Users sent along with rows. These have names; roles and presence come from the directory. */
  include(users: Record<string, User> | undefined) {
    for (const user of Object.values(users ?? {})) this.get(user.id).set(user);
  }

  remove(id: string) {
    const person = this.get(id);
    person.isDeleted = true;
    person.presence = 'offline';
  }

  setPresence(id: string, status: PresenceStatus) {
    this.get(id).presence = presenceOf(status);
  }
}

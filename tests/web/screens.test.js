// Every screen with the content people have, in light, dark and phone size: axe checks each, and
// `make screenshots` keeps the pictures.
import { scenario, SIZES } from './support/fixture.js';
import { attachment, rewriteRows, serveFiles } from './support/rewrite.js';
import { PASSWORD } from './support/server.js';

const VARIANTS = {
  light: { ...SIZES.desktop, colorScheme: 'light' },
  dark: { ...SIZES.desktop, colorScheme: 'dark' },
  phone: { ...SIZES.phone, colorScheme: 'light' },
  'phone-dark': { ...SIZES.phone, colorScheme: 'dark' },
};

const TALK = [
  ['grace', 'Morning! The **greenhouse** is ready for the seedlings 🌱'],
  ['grace', 'Who can bring soil on Saturday?'],
  ['ada', 'I can, about 40 litres. @grace do we need pots as well?'],
  ['grace', 'Yes:\n- 12 small ones\n- 4 large ones\n- the *blue* watering can, if somebody finds it'],
  ['max', 'The pump makes that noise again. From its log:\n```\n09:12:04 pump  pressure 2.1 bar\n09:12:09 pump  pressure 0.4 bar   <- here\n09:12:11 pump  restarted\n```'],
  ['ada', '> The pump makes that noise again\n\nThat is the seal, `part 4711`. I ordered one: https://example.org/parts/4711'],
  ['max', 'Perfect, thank you!'],
  ['long', 'Hello, I am new here. My name is a bit long, sorry.'],
  ['grace', 'Welcome! ' + 'We meet every Saturday at ten, and whoever comes first opens the shed. '.repeat(3)],
];

const PICTURED = 'That is how it looks now:';

for (const [variant, options] of Object.entries(VARIANTS)) {
  scenario(`every screen: ${variant}`, async ({ server, open }) => {
    const isPhone = variant.startsWith('phone');
    const link = server.setupLink();
    const guest = await open(options);
    const { page } = guest;
    const inspect = (name) => guest.inspect(`${name}-${variant}`);
    await page.goto(link);
    await page.getByRole('heading', { name: 'Welcome, first owner' }).waitFor();
    await inspect('setup');
    await page.getByLabel('Login', { exact: true }).fill('ada');
    await page.getByLabel('Password').fill('short');
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByText('Between 8 and 128 characters.').waitFor();
    await inspect('setup-faults');
    await page.getByLabel('Name others see').fill('Ada Lovelace');
    await page.getByLabel('Password').fill(PASSWORD);
    await page.getByRole('button', { name: 'Create account' }).click();
    await page.getByRole('heading', { name: 'You are in' }).waitFor();
    await inspect('setup-done');
    await guest.goto('/setup');
    await page.getByRole('heading', { name: 'This link does not work' }).waitFor();
    await inspect('setup-dead');

    // The other people and their messages.
    const ada = await server.call('/auth/login', { identifier: 'ada', password: PASSWORD });
    const people = { ada };
    for (const [login, name] of [['grace', 'Grace Hopper'], ['max', 'Max'], ['long', 'Wilhelmina-Theodora Vandenbergh']]) {
      people[login] = await server.person(ada, login, name);
    }
    const { groups } = await server.call('RoomDirectoryService/ListRoomGroups', {}, ada);
    for (const [name, description] of [
      ['garden', 'Saturdays at ten'],
      ['a-name-of-just-thirty-letters!', 'Long names are cut where there is no room for them, and shown where there is'],
      ['music', ''],
    ]) {
      await server.call('RoomService/CreateRoom', { name, description, groupId: groups[0].id }, ada);
    }
    for (const name of ['general', 'garden', 'a-name-of-just-thirty-letters!']) await server.join(ada, name);
    let garden;
    for (const login of ['grace', 'max', 'long']) garden = await server.join(people[login], 'garden');
    for (const [login, text] of TALK) await server.post(people[login], garden, text);
    const general = await server.join(people.grace, 'general');
    await server.post(people.grace, general, 'Something new');

    await guest.goto('/');
    if (isPhone) {
      await page.getByRole('navigation', { name: 'Rooms' }).waitFor();
      await inspect('rooms');
    }
    await guest.goto(`/chat/-/${garden}`);
    await guest.message('Welcome!').waitFor();
    await guest.timeline.locator('pre').waitFor();
    await inspect('room');
    await server.call('RoomService/UpdateTypingIndicator', { roomId: garden }, people.grace);
    await page.getByText('Grace Hopper is typing…').waitFor();
    await guest.composer.fill('I will be there\nwith soil');
    await inspect('room-typing');
    await guest.composer.fill('');
    if (isPhone) {
      await page.getByRole('button', { name: /^Members/ }).click();
      await page.getByRole('complementary', { name: 'Members' }).waitFor();
      await inspect('members');
    }
    await page.getByRole('button', { name: 'Leave garden' }).click();
    await page.getByRole('dialog').waitFor();
    await inspect('leave');
    await page.keyboard.press('Escape');
    await rewriteRows(guest, (event, message) => {
      if (message?.body !== PICTURED) return;
      message.attachments.push(
        attachment({ id: 'shed-1200x675', filename: 'the shed.jpg', contentType: 'image/jpeg', width: 1200, height: 675 }),
        attachment({ id: 'lost-300x200', filename: 'the pond.jpg', contentType: 'image/jpeg', width: 300, height: 200 }),
        attachment({ id: 'plan-1x1', filename: 'plan of the beds, second version.pdf', contentType: 'application/pdf' }),
      );
    });
    await serveFiles(guest);
    const pictured = await server.post(people.max, garden, PICTURED);
    await guest.goto(`/chat/-/${garden}/m/${pictured.id}`);
    await page.getByRole('link', { name: /^the pond\.jpg/ }).waitFor();
    await inspect('room-pictures');
    await page.unrouteAll();

    await guest.goto('/rooms');
    await page.getByRole('heading', { name: 'All rooms' }).waitFor();
    await inspect('browse');
    await page.getByRole('button', { name: 'New room' }).click();
    await page.getByLabel('Name', { exact: true }).fill('pond');
    await inspect('new-room');
    await page.getByRole('button', { name: 'Make the room' }).click();
    await guest.composer.waitFor();
    await inspect('room-empty');
    await guest.goto(`/chat/-/${await server.roomId(ada, 'music')}`);
    await page.getByRole('heading', { name: 'You are not in this room' }).waitFor();
    await inspect('room-outside');
    await guest.goto('/no/such/page');
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
    await inspect('nowhere');
    if (isPhone) await guest.goto('/');
    await page.getByRole('button', { name: 'Add a person' }).click();
    await page.getByLabel(/^Name others will see/).fill('Barbara');
    await inspect('add-person');
    await page.getByRole('button', { name: 'Make a link' }).click();
    const join = await page.getByLabel('Join link', { exact: true }).inputValue();
    await inspect('add-person-link');
    await page.getByRole('button', { name: 'Add another' }).click();
    await page.getByRole('heading', { name: 'Links nobody has used yet' }).waitFor();
    await inspect('add-person-open');
    await page.keyboard.press('Escape');

    await guest.goto(`/chat/-/${garden}`);
    guest.expected.push(/status of 400/);
    await page.route('**/chatto.api.v1.MessageService/CreateMessage', (route) =>
      route.fulfill({ status: 400, contentType: 'application/json', body: '{"code":"failed_precondition","message":"this room is archived"}' }),
    );
    await guest.write('Can you read this?');
    await page.getByText('Not sent.').waitFor();
    await inspect('room-refused');
    await page.getByRole('button', { name: 'Discard' }).click();
    guest.expected.push(/WebSocket|ERR_/);
    await server.kill();
    await page.getByText('Connection lost.').waitFor();
    await inspect('room-lost');
    await server.run();
    await page.getByText('Connection lost.').waitFor({ state: 'detached' });
    if (isPhone) await guest.goto('/');
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await inspect('login');
    guest.expected.push(/status of 401/);
    await page.getByLabel('Login or e-mail').fill('ada');
    await page.getByLabel('Password').fill('not this one');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('Login or password is wrong.').waitFor();
    await inspect('login-wrong');
    await page.goto('about:blank');
    await page.goto(join);
    await page.getByRole('heading', { name: /^Join/ }).waitFor();
    await inspect('join');
  });
}

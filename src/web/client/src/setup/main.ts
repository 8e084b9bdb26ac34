// The page that a setup or join link opens. It shares no file with the client: it works whatever client is served.
import { mount } from 'svelte';
import '../base.css';
import Setup from './Setup.svelte';

const target = document.getElementById('app');
if (target) mount(Setup, { target });
// Another link in the same tab is another page.
window.addEventListener('hashchange', () => location.hash && location.reload());

// The page that a setup or join link opens. It shares no file with the client, so it works whichever client is served.
import { mount } from 'svelte';
import '../base.css';
import '../sign-in.css';
import Setup from './Setup.svelte';

const target = document.getElementById('app');
if (target) mount(Setup, { target });
// Another link opened in the same tab starts over.
window.addEventListener('hashchange', () => location.hash && location.reload());

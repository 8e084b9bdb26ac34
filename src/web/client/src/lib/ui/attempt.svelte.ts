// A call that a user started: one at a time, with the text to show when it fails.
import { callErrorOf } from '../api/errors';

export class Attempt {
  isBusy = $state(false);
  problem = $state('');

  async run(call: () => Promise<void>) {
    if (this.isBusy) return;
    this.isBusy = true;
    this.problem = '';
    try {
      await call();
    } catch (error) {
      this.problem = callErrorOf(error).text;
    } finally {
      this.isBusy = false;
    }
  }
}

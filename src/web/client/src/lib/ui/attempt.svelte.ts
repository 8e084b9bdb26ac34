// A call that a person started: one at a time, and what to say when it fails.
import { failure } from '../api/failure';

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
      this.problem = failure(error).text;
    } finally {
      this.isBusy = false;
    }
  }
}

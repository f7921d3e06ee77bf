// Events are wake-ups, the API is the truth: whatever is shown is fetched again, and never more often than needed.

import { toastError } from "./toasts.js";

/**
 * A function that calls `fetchIt` at once, or `pauseMs` after the last call of it; calls meanwhile are joined, and
 * never do two run at a time, so an older answer can not replace a newer one.
 */
export function refresher(fetchIt, pauseMs) {
  let isBusy = false;
  let isWanted = false;

  async function run() {
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      await fetchIt().catch(report);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    isBusy = false;
  }

  return () => {
    isWanted = true;
    if (!isBusy) run();
  };
}

/** That the server is away, or the session over, is shown at the top of the page already. */
function report(error) {
  if (error.status === 0 || error.status === 401) return;
  toastError(error);
}

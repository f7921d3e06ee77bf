// Events only say that something has changed. The page then fetches the state from the API, but not too often.

import { ApiError } from "./api.js";
import { toastError } from "./toasts.js";

/**
 * Return a function that calls `fetchIt` at once, or `pauseMs` after its last call. Joins the calls in between. Never
 * runs two at a time, so that an older answer cannot replace a newer one.
 * @param {() => Promise<unknown>} fetchIt
 * @param {number} pauseMs
 * @returns {() => void}
 */
export function refresher(fetchIt, pauseMs) {
  let isBusy = false;
  let isDue = false;

  async function run() {
    isBusy = true;
    while (isDue) {
      isDue = false;
      await fetchIt().catch(report);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    isBusy = false;
  }

  return () => {
    isDue = true;
    if (!isBusy) run();
  };
}

/**
 * The top of the page shows already that the server is away or that the session has ended.
 * @param {unknown} error
 */
function report(error) {
  if (error instanceof ApiError && (error.status === 0 || error.status === 401)) return;
  toastError(error);
}

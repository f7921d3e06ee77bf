// The part of a link behind the `#` names a run, but the browser does not send it. This script puts it into the form,
// so that the sign-in leads to that run.
const next = /** @type {HTMLInputElement | null} */ (document.querySelector("input[name=next]"));
const singleSignOn = /** @type {HTMLAnchorElement | null} */ (document.querySelector("#single-sign-on"));

if (next && location.hash) {
  next.value = (next.value || "/") + location.hash;
  if (singleSignOn) singleSignOn.search = String(new URLSearchParams({ next: next.value }));
}

// A link to a run carries its place behind the `#`, which no server sees: it has to be carried through the sign-in.
const next = document.querySelector("input[name=next]");
if (location.hash) {
  next.value = (next.value || "/") + location.hash;
  const singleSignOn = document.querySelector("#single-sign-on");
  if (singleSignOn) {
    singleSignOn.search = new URLSearchParams({ next: next.value });
  }
}

interface Watched {
  onHidden(): void;
  onVisible(): void;
  onOnline(): void;
}

/** Tell when the page has been hidden for a while, is seen again, or the network is back. Returns how to end that. */
export function watchPage(hiddenAfter: number | false, watched: Watched): () => void {
  const { document: page } = globalThis;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const turned = () => {
    clearTimeout(timer);
    if (page.visibilityState !== "hidden") watched.onVisible();
    else if (hiddenAfter !== false) timer = setTimeout(watched.onHidden, hiddenAfter);
  };
  page?.addEventListener("visibilitychange", turned);
  globalThis.addEventListener?.("online", watched.onOnline);
  if (page?.visibilityState === "hidden") turned();
  return () => {
    clearTimeout(timer);
    page?.removeEventListener("visibilitychange", turned);
    globalThis.removeEventListener?.("online", watched.onOnline);
  };
}

// A <dialog> with a form in it: Esc, the ✕ and a click beside it close it, the browser keeps the focus inside.

import { el, fill, focusKey } from "./dom.js";
import { ApiError } from "./api.js";
import { toastError } from "./toasts.js";

export const STAY_OPEN = Symbol("stay open");

/**
 * Open a dialog. `submit` is awaited; the dialog closes when it returns, unless that is `STAY_OPEN`. What it throws is
 * shown by `explain` (which says whether it could), else above the buttons.
 */
export function openDialog({ title, subtitle = "", body, action, tone = "primary", leave = "Cancel", submit, explain = () => false }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const confirm = el("button", { class: `button ${tone}`, type: "submit" }, action);
  const cancel = el("button", { class: "button", type: "button", click: () => dialog.close() }, leave);
  const close = el("button", { class: "button ghost small", type: "button", "aria-label": "Close", click: () => dialog.close() }, "✕");
  const heading = el("div", {}, el("h2", { id: "dialog-title" }, title), subtitle && el("p", { class: "quiet small" }, subtitle));
  const form = el(
    "form",
    { method: "dialog", novalidate: true, submit: send },
    el("header", {}, heading, close),
    el("div", { class: "dialog-body" }, body),
    el("footer", {}, problem, cancel, confirm),
  );
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", close: left, mousedown: closeBeside }, form);

  const opener = document.activeElement;

  /** The browser gives the focus back to what had it, unless that was drawn anew meanwhile. */
  function left() {
    dialog.remove();
    if (opener && !opener.isConnected && opener.dataset.key) focusKey(opener.dataset.key);
  }

  function closeBeside(event) {
    if (event.target === dialog) dialog.close();
  }

  async function send(event) {
    event.preventDefault();
    confirm.disabled = true;
    fill(problem);
    try {
      if ((await submit()) !== STAY_OPEN) dialog.close();
    } catch (error) {
      show(error);
    } finally {
      confirm.disabled = false;
    }
  }

  function show(error) {
    if (explain(error)) return;
    fill(problem, error.message);
    if (error instanceof ApiError) toastError(error);
  }

  document.body.append(dialog);
  dialog.showModal();
  return { dialog, confirm };
}

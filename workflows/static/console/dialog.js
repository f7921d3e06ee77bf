// A <dialog> with a form in it: Esc, the ✕ and a click beside it close it, the browser keeps the focus inside.

import { el, fill } from "./dom.js";
import { ApiError } from "./api.js";
import { toastError } from "./toasts.js";

/**
 * Open a dialog. `submit` is awaited; the dialog closes when it returns. What it throws is shown by `explain`
 * (which says whether it could), else above the buttons.
 */
export function openDialog({ title, subtitle = "", body, action, tone = "primary", submit, explain = () => false }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const confirm = el("button", { class: `button ${tone}`, type: "submit" }, action);
  const cancel = el("button", { class: "button", type: "button", click: () => dialog.close() }, "Cancel");
  const close = el("button", { class: "button ghost small", type: "button", "aria-label": "Close", click: () => dialog.close() }, "✕");
  const heading = el("div", {}, el("h2", { id: "dialog-title" }, title), subtitle && el("p", { class: "quiet small" }, subtitle));
  const form = el(
    "form",
    { method: "dialog", novalidate: true, submit: send },
    el("header", {}, heading, close),
    el("div", { class: "dialog-body" }, body),
    el("footer", {}, problem, cancel, confirm),
  );
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", close: () => dialog.remove(), mousedown: closeBeside }, form);

  function closeBeside(event) {
    if (event.target === dialog) dialog.close();
  }

  async function send(event) {
    event.preventDefault();
    confirm.disabled = true;
    fill(problem);
    try {
      await submit();
      dialog.close();
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

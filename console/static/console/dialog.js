// A <dialog> with a form. Esc, the ✕ and a click beside it close it. The browser keeps the focus inside.

import { ApiError } from "./api.js";
import { el, fill, focusKey, keyOf } from "./dom.js";
import { toastError } from "./toasts.js";

export const STAY_OPEN = Symbol("stay open");

/**
 * @typedef {object} Options
 * @property {string} title
 * @property {string} [subtitle]
 * @property {Dom.Child[]} body
 * @property {string} action the text of the button that submits
 * @property {string} [tone]
 * @property {string} [leave] the text of the button that closes
 * @property {() => Promise<unknown>} submit the dialog closes after it, unless it returns `STAY_OPEN`
 * @property {(error: unknown) => boolean} [explain] shows an error of `submit` and returns whether it could; the
 *   dialog itself shows the others above its buttons
 */

/** @param {Options} options */
export function openDialog(options) {
  const { submit, explain = () => false } = options;
  const problem = el("p", { class: "problem", role: "alert" });
  const confirm = el("button", { class: `button ${options.tone ?? "primary"}`, type: "submit" }, options.action);
  const dialog = dialogOf(options, { problem, confirm, send });

  /** @param {Event} event */
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

  /** @param {unknown} error */
  function show(error) {
    if (explain(error)) return;
    fill(problem, error instanceof Error ? error.message : String(error));
    if (error instanceof ApiError) toastError(error);
  }

  document.body.append(dialog);
  dialog.showModal();
  return { dialog, confirm };
}

/**
 * @param {Options} options
 * @param {{ problem: HTMLElement, confirm: HTMLElement, send: (event: Event) => unknown }} parts
 */
function dialogOf({ title, subtitle, body, leave = "Cancel" }, { problem, confirm, send }) {
  const opener = document.activeElement;
  const dialog = el("dialog", { "aria-labelledby": "dialog-title" });
  const shut = () => dialog.close();
  const cancel = el("button", { class: "button", type: "button", click: shut }, leave);
  const closing = { class: "button ghost small", type: "button", "aria-label": "Close", click: shut };
  const heading = el("h2", { id: "dialog-title" }, title);
  const form = el(
    "form",
    { method: "dialog", novalidate: true, submit: send },
    el(
      "header",
      {},
      el("div", {}, heading, subtitle && el("p", { class: "quiet small" }, subtitle)),
      el("button", closing, "✕"),
    ),
    el("div", { class: "dialog-body" }, body),
    el("footer", {}, problem, cancel, confirm),
  );
  dialog.append(form);
  dialog.addEventListener("close", () => left(dialog, opener));
  dialog.addEventListener("mousedown", (event) => event.target === dialog && shut());
  return dialog;
}

/**
 * The browser returns the focus to the opener. If the opener was redrawn meanwhile, the new element gets it.
 * @param {HTMLElement} dialog
 * @param {Element | null} opener
 */
function left(dialog, opener) {
  dialog.remove();
  if (opener && !opener.isConnected && keyOf(opener)) focusKey(keyOf(opener));
}

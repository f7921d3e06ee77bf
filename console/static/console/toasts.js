// Short messages at the edge of the page.

import { ApiError } from "./api.js";
import { byId, el } from "./dom.js";

const SHOWN_MS = 6_000;
const PROBLEM_SHOWN_MS = 20_000;

/**
 * @param {string} text
 * @param {{ problem?: boolean, small?: string }} options
 */
export function toast(text, { problem = false, small = "" } = {}) {
  const box = byId("toasts");
  const leave = () => {
    note.remove();
    if (!box.children.length) box.hidePopover();
  };
  const close = el(
    "button",
    { class: "button ghost small", type: "button", "aria-label": "Dismiss", click: leave },
    "✕",
  );
  const words = el("div", {}, el("p", {}, text), small && el("p", { class: "small quiet mono" }, small));
  const note = el("div", { class: "toast", data: { problem } }, words, close);
  box.append(note);
  raise(box);
  setTimeout(() => note.isConnected && leave(), problem ? PROBLEM_SHOWN_MS : SHOWN_MS);
}

/**
 * Put the messages above everything, also above an open dialog.
 * @param {HTMLElement} box
 */
function raise(box) {
  if (box.matches(":popover-open")) box.hidePopover();
  box.showPopover();
}

/**
 * Show an error, with the code and the request id that help to look it up.
 * @param {unknown} error
 */
export function toastError(error) {
  const message = error instanceof Error ? error.message : String(error);
  const trail = error instanceof ApiError ? [error.code, error.requestId && `request ${error.requestId}`] : [];
  toast(message, { problem: true, small: trail.filter(Boolean).join(" · ") });
}

// Short messages at the edge of the page.

import { el } from "./dom.js";

const SHOWN_MS = 6_000;
const PROBLEM_SHOWN_MS = 20_000;

export function toast(text, { problem = false, small = "" } = {}) {
  const box = document.getElementById("toasts");
  const leave = () => {
    note.remove();
    if (!box.children.length) box.hidePopover();
  };
  const close = el("button", { class: "button ghost small", type: "button", "aria-label": "Dismiss", click: leave }, "✕");
  const words = el("div", {}, el("p", {}, text), small && el("p", { class: "small quiet mono" }, small));
  const note = el("div", { class: "toast", data: { problem } }, words, close);
  box.append(note);
  raise(box);
  setTimeout(() => note.isConnected && leave(), problem ? PROBLEM_SHOWN_MS : SHOWN_MS);
}

/** Above everything, also above a dialog that was opened before. */
function raise(box) {
  if (box.matches(":popover-open")) box.hidePopover();
  box.showPopover();
}

/** Say what went wrong, with what somebody who looks it up needs. */
export function toastError(error) {
  const trail = [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  toast(error.message, { problem: true, small: trail });
}

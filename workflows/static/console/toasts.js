// Short messages at the edge of the page.

import { el } from "./dom.js";

const SHOWN_MS = 6_000;
const PROBLEM_SHOWN_MS = 20_000;

export function toast(text, { problem = false, small = "" } = {}) {
  const close = el("button", { class: "button ghost small", type: "button", "aria-label": "Dismiss", click: () => note.remove() }, "✕");
  const words = el("div", {}, el("p", {}, text), small && el("p", { class: "small quiet mono" }, small));
  const note = el("div", { class: "toast", data: { problem } }, words, close);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), problem ? PROBLEM_SHOWN_MS : SHOWN_MS);
}

/** Say what went wrong, with what somebody who looks it up needs. */
export function toastError(error) {
  const trail = [error.code, error.requestId && `request ${error.requestId}`].filter(Boolean).join(" · ");
  toast(error.message, { problem: true, small: trail });
}

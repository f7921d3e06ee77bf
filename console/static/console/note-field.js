// A field that the dialogs of actions share.

import { el } from "./dom.js";

/**
 * A field for a note, for the dialogs of actions.
 * @param {string} hint
 */
export function noteField(hint) {
  const input = el("input", { type: "text", maxlength: 1000, autocomplete: "off" });
  const caption = el("span", { class: "caption" }, "Note");
  const element = el("label", { class: "field" }, caption, input, el("span", { class: "hint" }, hint));
  return { element, read: () => input.value };
}

// Builds the page without markup in strings: a text stays text, whatever it contains.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element. Properties that are functions become listeners. Leaves out null, undefined and false.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Dom.Properties} [properties]
 * @param {...Dom.Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, properties = {}, ...children) {
  return furnish(document.createElement(tag), properties, children);
}

/**
 * Create an SVG element, like `el`.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Dom.Properties} [properties]
 * @param {...Dom.Child} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, properties = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), properties, children);
}

/**
 * @template {HTMLElement | SVGElement} E
 * @param {E} element
 * @param {Dom.Properties} properties
 * @param {Dom.Child[]} children
 * @returns {E}
 */
function furnish(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (typeof value === "object") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodesOf(children));
  return element;
}

/**
 * Replace the content of `element`.
 * @template {Element} E
 * @param {E} element
 * @param {...Dom.Child} children
 * @returns {E}
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodesOf(children));
  return element;
}

/**
 * @param {Dom.Child[]} children
 * @returns {(Node | string)[]}
 */
function nodesOf(children) {
  return children.flatMap((child) => {
    if (Array.isArray(child)) return nodesOf(child);
    if (child === null || child === undefined || child === false) return [];
    return [child instanceof Node ? child : String(child)];
  });
}

/**
 * The element with this id. The templates contain it.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element #${id}.`);
  return element;
}

/**
 * Redraw the content of `box`, then return the focus to the new element with the same `data-key`.
 * @param {HTMLElement} box
 * @param {() => unknown} redraw
 */
export function keepFocus(box, redraw) {
  const active = document.activeElement;
  const key = active && box.contains(active) ? keyOf(active) : "";
  redraw();
  if (key) focusKey(key, box);
}

/** @param {Element} element */
export const keyOf = (element) => /** @type {HTMLElement} */ (element).dataset.key ?? "";

/**
 * @param {string} key
 * @param {ParentNode} [within]
 */
export function focusKey(key, within = document) {
  const found = within.querySelector(`[data-key="${CSS.escape(key)}"]`);
  /** @type {HTMLElement | null} */ (found)?.focus({ preventScroll: true });
}

/**
 * Say this to screen readers.
 * @param {string} text
 */
export function announce(text) {
  byId("announcer").textContent = text;
}

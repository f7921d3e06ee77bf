// Building the page without markup in strings: text stays text, whatever it says.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `properties` that hold functions are listeners; null, undefined and false are left out. */
export function el(tag, properties = {}, ...children) {
  return furnish(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), properties, children);
}

function furnish(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what `element` holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Redraw what `box` holds and give the focus back to what stands for the same thing: what has the same `data-key`. */
export function keepFocus(box, redraw) {
  const key = box.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  redraw();
  if (key) focusKey(key, box);
}

export function focusKey(key, within = document) {
  within.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Tell people who listen to the page instead of looking at it. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

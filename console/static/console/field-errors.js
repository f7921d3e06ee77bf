// Finds the form field for each message of a refused request. Knows nothing of the page.

/**
 * Sort messages by place. The error `parameters.rows.0.name` belongs to the place `parameters.rows`.
 * @param {Record<string, string[]>} errors
 * @param {string[]} places
 * @returns {{ placed: Map<string, string[]>, rest: string }} `rest` joins the messages that have no place
 */
export function placeErrors(errors, places) {
  /** @type {Map<string, string[]>} */
  const placed = new Map();
  const rest = [];
  for (const [name, messages] of Object.entries(errors)) {
    const place = places.find((one) => name === one || name.startsWith(`${one}.`));
    if (place === undefined) rest.push(`${name}: ${messages.join(" ")}`);
    else placed.set(place, [...(placed.get(place) ?? []), ...messages]);
  }
  return { placed, rest: rest.join(" ") };
}

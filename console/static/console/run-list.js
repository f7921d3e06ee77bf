// Which runs the list shows, and where its links lead. Knows nothing of the page.

import { ACTIVE } from "./states.js";

/** The filters in the address. @typedef {{ state?: string, workflow?: string }} Filters */

/** @type {{ name: string, text: string, states: string[] }[]} */
export const FILTERS = [
  { name: "", text: "All", states: [] },
  { name: "active", text: "Active", states: ACTIVE },
  { name: "success", text: "Success", states: ["success"] },
  { name: "failed", text: "Failed", states: ["failed"] },
  { name: "stopped", text: "Stopped", states: ["stopped"] },
];
export const PAGE_SIZE = 50;

/**
 * The query for the newest page of runs.
 * @param {Filters} filters
 */
export function queryOf({ state = "", workflow }) {
  const query = new URLSearchParams({ page_size: String(PAGE_SIZE) });
  if (workflow) query.set("workflow", workflow);
  const states = FILTERS.find(({ name }) => name === state)?.states ?? [];
  for (const one of states) query.append("state", one);
  return query;
}

/**
 * The address of the list with these filters.
 * @param {Filters} filters
 */
export function addressOf(filters) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  const text = query.toString();
  return text ? `#/runs?${text}` : "#/runs";
}

/**
 * The known runs that come below a new first page. None, if so many runs are new that there would be a gap.
 * @param {Api.Run[]} known
 * @param {Api.Page<Api.Run>} page
 */
export function runsBelow(known, page) {
  const ids = new Set(known.map((run) => run.id));
  const last = page.results.at(-1);
  if (!last || !page.next || !page.results.some((run) => ids.has(run.id))) return [];
  return known.filter((run) => run.created_at < last.created_at);
}

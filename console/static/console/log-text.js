// Which log the page shows, and what its lines say. Knows nothing of the page.

// Without a named instance, the page shows one in the first of these states.
const WORST_FIRST = ["failed", "up_for_retry", "running", "success"];
const NAMED_LEVELS = ["warning", "error", "critical"];
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals use this character to switch colours
const COLOUR_CODES = /\x1b\[[0-9;]*m/g;
const FOLD = "::group::";
const FOLD_END = "::endgroup::";

/**
 * The task, instance and try that the address names. `index` and `attempt` are null when it names none.
 * @typedef {{ task: string, index: string | null, attempt: string | null }} Named
 */

/**
 * The instance that the address names, or else the one that the user most likely wants to see.
 * @param {Api.TaskInstance[]} instances the instances of one task
 * @param {string | null} index
 */
export function instanceFor(instances, index) {
  if (index !== null) return instances.find((one) => String(one.map_index) === index);
  const worst = WORST_FIRST.find((state) => instances.some((one) => one.state === state));
  return instances.find((one) => one.state === worst) ?? instances[0];
}

/**
 * The level and text of a line, or null for a line that only ends a section of Airflow's own messages. The level
 * "fold" marks the title of such a section.
 * @param {Pick<Api.LogLine, "level" | "text">} line
 */
export function wordsOf({ level, text }) {
  if (text === FOLD_END) return null;
  const isFold = text.startsWith(FOLD);
  const words = (isFold ? text.slice(FOLD.length) : text).replaceAll(COLOUR_CODES, "");
  return { level: isFold ? "fold" : (level ?? ""), prefix: prefixFor(level), text: words };
}

/** @param {string | null} level */
const prefixFor = (level) => (level && NAMED_LEVELS.includes(level) ? `${level.toUpperCase()} ` : "");

/** @param {Pick<Api.LogLine, "text">[]} lines */
export const lengthOf = (lines) => lines.reduce((sum, { text }) => sum + text.length, 0);

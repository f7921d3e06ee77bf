// Times and durations as text.

/** @type {[number, string][]} */
const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

/**
 * Date and time in full, in the reader's time zone.
 * @param {string} iso
 */
export const full = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });

/**
 * The time of day, to the second.
 * @param {string} iso
 */
export const ofDay = (iso) => new Date(iso).toLocaleTimeString(undefined, { hour12: false });

/**
 * "14:05", or with the date unless it is today.
 * @param {string} iso
 */
export function when(iso) {
  const isToday = new Date(iso).toDateString() === new Date().toDateString();
  const dateStyle = isToday ? undefined : "medium";
  return new Date(iso).toLocaleString(undefined, { dateStyle, timeStyle: "short", hourCycle: "h23" });
}

/**
 * "4.2 s", "1 min 05 s" or "2 h 10 min".
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${twoDigits(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`;
}

/** @param {number} number */
const twoDigits = (number) => String(Math.floor(number)).padStart(2, "0");

/**
 * "just now", "42 s ago" or "3 h ago".
 * @param {number} seconds
 */
export function relative(seconds) {
  if (seconds < 5) return "just now";
  const [size, name] = UNITS.find(([unit]) => seconds >= unit) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${name} ago`;
}

/**
 * Seconds between two times, or until now without `to`.
 * @param {string} from
 * @param {string | null} [to]
 */
export const secondsBetween = (from, to) => ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;

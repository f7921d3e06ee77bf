// Where the boxes and edges of a task graph go. Knows nothing of the page.

/** @typedef {{ x: number, y: number }} Place */
/** @typedef {{ isTall: boolean, width: number, along: number, across: number }} Shape */

export const HEIGHT = 46;
const NARROW = 560;
const WIDEST = 184;
const NARROWEST = 132;
const LONGEST_EDGE = 44;
const SHORTEST_EDGE = 22;
const TALL_EDGE = 26;
const GAP = 16;
const LETTER = 7;

/**
 * Put each task one layer behind the last task that it waits for, and near to those tasks within its layer.
 * @param {Api.DagTask[]} tasks
 * @returns {string[][]} layers of task ids
 */
export function layersOf(tasks) {
  const upstream = upstreamOf(tasks);
  const layers = byDepth(tasks, upstream);
  /** @type {Map<string, number>} */
  const rank = new Map();
  for (const layer of layers) {
    const wish = (/** @type {string} */ id) => mean((upstream.get(id) ?? []).map((from) => rank.get(from) ?? 0));
    layer.sort((one, other) => wish(one) - wish(other));
    layer.forEach((id, at) => {
      rank.set(id, at - (layer.length - 1) / 2);
    });
  }
  return layers;
}

/**
 * @param {Api.DagTask[]} tasks
 * @returns {Map<string, string[]>}
 */
function upstreamOf(tasks) {
  /** @type {Map<string, string[]>} */
  const upstream = new Map(tasks.map((task) => [task.task_id, []]));
  for (const task of tasks) {
    for (const to of task.downstream_task_ids) upstream.get(to)?.push(task.task_id);
  }
  return upstream;
}

/**
 * @param {Api.DagTask[]} tasks
 * @param {Map<string, string[]>} upstream
 */
function byDepth(tasks, upstream) {
  /** @type {Map<string, number>} */
  const depths = new Map();
  /** @type {(id: string) => number} */
  const depth = (id) => {
    const known = depths.get(id);
    if (known !== undefined) return known;
    const found = 1 + Math.max(-1, ...(upstream.get(id) ?? []).map(depth));
    depths.set(id, found);
    return found;
  };
  /** @type {string[][]} */
  const layers = [];
  for (const task of tasks) {
    const at = depth(task.task_id);
    layers[at] ??= [];
    layers[at].push(task.task_id);
  }
  return layers;
}

/** @param {number[]} numbers */
const mean = (numbers) => (numbers.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : 0);

/**
 * Choose the size of boxes and edges: as large as `width` allows, from left to right, or from top to bottom where
 * `width` is small. A graph that is still too large can be scrolled.
 * @param {string[][]} layers
 * @param {number} width
 * @returns {Shape}
 */
export function shapeFor(layers, width) {
  const isTall = width < NARROW;
  const inARow = isTall ? widestOf(layers) : layers.length;
  const share = (width - 2) / inARow;
  const edge = isTall ? GAP : clamp(share * 0.2, SHORTEST_EDGE, LONGEST_EDGE);
  const widest = isTall && inARow === 1 ? width - 2 : WIDEST;
  return { isTall, width: clamp(share - edge, NARROWEST, widest), along: isTall ? TALL_EDGE : edge, across: GAP };
}

/** @param {string[][]} layers */
const widestOf = (layers) => Math.max(...layers.map((layer) => layer.length));

/** @type {(number: number, least: number, most: number) => number} */
const clamp = (number, least, most) => Math.min(most, Math.max(least, number));

/**
 * The top left corner of each task's box.
 * @param {string[][]} layers
 * @param {Shape} shape
 * @returns {Map<string, Place>}
 */
export function placesOf(layers, { isTall, width, along, across }) {
  const step = (isTall ? HEIGHT : width) + along;
  const stepAcross = (isTall ? width : HEIGHT) + across;
  const widest = widestOf(layers);
  const places = new Map();
  layers.forEach((layer, depth) => {
    layer.forEach((id, at) => {
      const offset = (at + (widest - layer.length) / 2) * stepAcross;
      places.set(id, isTall ? { x: offset, y: depth * step } : { x: depth * step, y: offset });
    });
  });
  return places;
}

/**
 * The size of the whole graph.
 * @param {Map<string, Place>} places
 * @param {Shape} shape
 */
export function extentOf(places, { width }) {
  const all = [...places.values()];
  return {
    width: Math.max(...all.map(({ x }) => x)) + width + 2,
    height: Math.max(...all.map(({ y }) => y)) + HEIGHT + 2,
  };
}

/**
 * The path of an SVG curve from one box to the next.
 * @param {Place} from
 * @param {Place} to
 * @param {Shape} shape
 */
export function curve(from, to, { isTall, width }) {
  const start = isTall ? [from.x + width / 2, from.y + HEIGHT + 2] : [from.x + width + 2, from.y + HEIGHT / 2 + 1];
  const end = isTall ? [to.x + width / 2, to.y] : [to.x, to.y + HEIGHT / 2 + 1];
  const half = isTall ? (end[1] - start[1]) / 2 : (end[0] - start[0]) / 2;
  const bend = isTall
    ? [start[0], start[1] + half, end[0], end[1] - half]
    : [start[0] + half, start[1], end[0] - half, end[1]];
  return `M${start}C${bend} ${end}`;
}

/**
 * The name of a task without its groups, shortened to fit a box of this width.
 * @param {string} id
 * @param {number} width
 */
export function fitted(id, width) {
  const name = id.slice(id.lastIndexOf(".") + 1);
  const most = (width - 20) / LETTER;
  return name.length > most ? `${name.slice(0, Math.floor(most) - 1)}…` : name;
}

/**
 * The states of all instances, by task.
 * @param {Pick<Api.TaskInstance, "task_id" | "state">[]} instances
 */
export function statesOf(instances) {
  /** @type {Map<string, string[]>} */
  const states = new Map();
  for (const one of instances) states.set(one.task_id, [...(states.get(one.task_id) ?? []), one.state]);
  return states;
}

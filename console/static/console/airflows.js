// The Airflows behind SVOps. Their names are shown only where there is more than one.

const DEFAULT = "default";

/**
 * The address of a DAG in the API.
 * @param {{ airflow: string, dag_id: string }} named a workflow or a run
 */
export const dagPath = ({ airflow, dag_id: dagId }) =>
  `/dags/${encodeURIComponent(dagId)}${airflow === DEFAULT ? "" : `?airflow=${encodeURIComponent(airflow)}`}`;

/**
 * What tells DAGs of the same dag_id apart.
 * @param {{ airflow: string, dag_id: string }} named
 */
export const dagKey = ({ airflow, dag_id: dagId }) => JSON.stringify([airflow, dagId]);

/** The Airflows that occur in what the user sees. */
export class Airflows {
  /** @type {Set<string>} */
  #seen = new Set();

  /** @param {{ airflow: string }[]} rows workflows or runs */
  add(rows) {
    for (const { airflow } of rows) this.#seen.add(airflow);
  }

  /** @param {string} name */
  concerns(name) {
    return !this.#seen.size || this.#seen.has(name);
  }

  /**
   * The name, if there is another one to tell it from; "" otherwise.
   * @param {string} name
   */
  shown(name) {
    return this.#seen.size > 1 ? name : "";
  }

  /**
   * What a sentence about these Airflows begins with.
   * @param {string[]} names
   */
  called(names) {
    const one = names.length === 1 ? this.shown(names[0] ?? "") : "";
    if (names.length > 1) return `The Airflows ${[...names].sort().join(" and ")}`;
    return one || names[0] !== DEFAULT ? `The Airflow ${names[0]}` : "Airflow";
  }
}

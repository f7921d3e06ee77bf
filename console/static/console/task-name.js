// How the console names a task instance.

/**
 * "load", or "load [2]" for an instance of a mapped task.
 * @param {Api.TaskRef} ref
 */
export const nameOf = ({ task_id: id, map_index: index }) => (index < 0 ? id : `${id} [${index}]`);

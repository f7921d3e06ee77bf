"""The states of task instances, as a query names them. `none` is the state of one that is not scheduled yet."""

STATES_BUT_RUNNING = (
    "none",
    "scheduled",
    "queued",
    "restarting",
    "deferred",
    "up_for_reschedule",
    "up_for_retry",
    "success",
    "failed",
    "skipped",
    "upstream_failed",
    "removed",
)

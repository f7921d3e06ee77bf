"""What runs and what happened to it: DAGs, workflows, runs, tasks, events, and everything that talks to Airflow.

Nothing here knows who is notified: `settings.EVENT_SINKS` gets each event. Start with `models` and `states`, then
`services.runs`; docs/architecture.md has the map of the packages.
"""

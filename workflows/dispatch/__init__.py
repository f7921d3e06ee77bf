"""What SVOps still has to send to Airflow: commands, written with the change that causes them and dispatched after it.

Nothing here decides what happens to a run. Start with `commands.record_triggers` and `dispatcher.dispatch_due`.
"""

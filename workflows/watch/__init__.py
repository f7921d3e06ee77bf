"""What SVOps learns from Airflow, by polls and by its listener's pushes, and what that changes in runs and DAGs.

Only `observe` moves a run to follow Airflow. Users call nothing here. Start with `poll.tick` and `observe`.
"""

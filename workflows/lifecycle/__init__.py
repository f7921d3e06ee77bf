"""How a run moves along the state table, how a pause of its DAG freezes it, and when its stop is complete.

Each function shares its caller's transaction. None calls Airflow or knows its caller. Start with `moves`.
"""

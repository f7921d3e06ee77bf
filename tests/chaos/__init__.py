"""`make chaos`: the whole platform on PostgreSQL with a real Airflow, seeded clients, and faults of every kind.

It belongs to no app and asserts nothing of its own while it runs: `verdict` compares SVOps with Airflow's own API at
the end. Start with `__main__`.
"""

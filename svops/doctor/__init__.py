"""Whether everything that SVOps needs is there and lets it in, and what to mend: `manage.py doctor`, and a page of the
admin.

Start with `examination.examine`. `calls` is the table of what SVOps asks an Airflow.
"""

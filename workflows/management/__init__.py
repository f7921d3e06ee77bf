"""`manage.py` commands for scripts and operators.

They write no row: each calls the services, as the API does. Start with `base`, then `commands.run_workflow`.
"""

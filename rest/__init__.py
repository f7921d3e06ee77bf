"""What every REST endpoint shares: errors and their one shape, queries, bodies, pages, the schema, the environment.

It stands below all apps and imports none of them. Start with `errors`, then `error_responses`.
"""

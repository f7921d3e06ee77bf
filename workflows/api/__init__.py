"""The REST API of workflows, runs, logs, events and tickets: views, filters, inputs, serializers.

A view checks scopes, reads through `visible_to`, and calls one service for a write; it changes no row itself.
A read-only field of a serializer is always in the answer; a field that may be missing is `required=False`.
Start with `urls`, then `run_views`.
"""

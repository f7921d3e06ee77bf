"""Tests of notifications, with real receivers: an HTTP server, a mail server, and workers that are killed.

Nothing of SVOps is mocked, and no test measures time: receivers wait for conditions.
Start with `conftest` and `receiver`, then `test_delivery`.
"""

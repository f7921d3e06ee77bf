"""The REST API of accounts: it reads a request, calls one service and describes the answer.

No view here writes a row or decides on rights; `permissions.HasScope` does. Start with `urls`.
"""

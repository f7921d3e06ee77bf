"""The live console: pages that are clients of the public API and of one WebSocket, like any other."""

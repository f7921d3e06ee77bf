"""Measures the fan-out to many WebSocket clients, of SVOps and of alternatives: `make bench-live`."""

"""Fan-out to many WebSocket clients, SVOps beside what else one could take; `make bench-live`."""

"""From a change of state in Airflow to a client's frame, hop by hop; `make bench-latency`."""

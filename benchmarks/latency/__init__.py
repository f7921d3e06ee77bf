"""Measures the way from a state change in Airflow to a client's frame, hop by hop: `make bench-latency`."""

MARKS_VARIABLE = "SVOPS_BENCH_MARKS"  # names the file in which all processes write their marks

"""From a change of state in Airflow to a client's frame, hop by hop; `make bench-latency`."""

MARKS_VARIABLE = "SVOPS_BENCH_MARKS"  # names the file that all processes write their marks into

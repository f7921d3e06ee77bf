"""`make bench`: what the work of SVOps costs, row by row, each beside its peer in one interleaved run.

`benchmarks/rows/` has the rows. `worker` measures them, in one process for each database, small and big.
"""

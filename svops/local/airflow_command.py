"""Runs an `airflow` command like the script of that name, but starts sooner. For Airflow's own Python."""

import gc
import sys

# At its start Airflow only builds things that stay: searching them for garbage takes a quarter of the time.
gc.set_threshold(100_000, 20, 20)

from airflow.__main__ import main  # noqa: E402 - building begins with this import

if __name__ == "__main__":
    sys.argv[0] = "airflow"
    sys.exit(main())

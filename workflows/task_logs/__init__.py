"""Logs of tasks: read from Airflow once, kept as a copy on disk for a while, returned in pages.

`reading` answers a request, `copies` keeps the copies, `pages` has what callers ask for and get.
"""

from .pages import LARGEST_PAGE, Cursor, LogPage, LogQuery, Preparing
from .reading import end_of_log, follow, last_error, read

__all__ = ["LARGEST_PAGE", "Cursor", "LogPage", "LogQuery", "Preparing", "end_of_log", "follow", "last_error", "read"]

"""A typed client of Airflow's REST API, 2.11 and 3.x.

It knows nothing of Django or of SVOps. Start with `client.AirflowClient`, then `types` and `errors`;
`access` has what describes the way to an Airflow.
"""

from . import errors, types
from .access import Access, Password
from .client import AirflowClient
from .http import Timeout

__all__ = ["Access", "AirflowClient", "Password", "Timeout", "errors", "types"]

"""A typed client of Airflow's REST API, 2.11 and 3.x.

It knows nothing of Django or of SVOps. Start with `client.AirflowClient`, then `types` and `errors`.
"""

from . import errors, types
from .client import AirflowClient
from .http import Timeout

__all__ = ["AirflowClient", "Timeout", "errors", "types"]

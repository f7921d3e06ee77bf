"""Run by Airflow's interpreter: read [[schema, value], …] and print what `Param` says of each.

"ok", "refused", or "unusable" if Airflow cannot even check a value against this schema.
"""

import json
import sys

try:
    from airflow.sdk.definitions.param import Param
except ImportError:  # 2.11
    from airflow.models.param import Param


def verdict(schema: dict[str, object], value: object) -> str:
    try:
        Param(schema=schema).resolve(value)
    except BaseException as exc:  # noqa: BLE001 - a panic of a Rust library is no Exception
        return "refused" if "Param" in type(exc).__name__ else "unusable"
    return "ok"


if __name__ == "__main__":
    sys.stdout.write(json.dumps([verdict(schema, value) for schema, value in json.load(sys.stdin)]))

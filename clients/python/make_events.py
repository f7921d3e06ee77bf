"""`python clients/python/make_events.py` writes `svops_client/events.py` from the platform's catalogue of events."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

HERE = Path(__file__).parent
TARGET = HERE / "src/svops_client/events.py"
BEGINNING = '''"""The events of the platform, each with its `data`. Made by `make_events.py`; do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from svops_client.envelope import Event
from svops_client.models import Result
'''


def source() -> str:
    """Return the text of the module. Django must be set up."""
    from workflows.eventlog.events import CATALOGUE

    classes = "".join("\n".join(_classes(kind)) for kind in CATALOGUE.values())
    table = "\n".join(f'    "{name}": {kind.__name__},' for name, kind in CATALOGUE.items())
    # A docstring of one line ends on it.
    classes = re.sub(r'("""[^\n]+)\n    """', r'\1"""', classes)
    return f"{BEGINNING}{classes}\n\nBY_TYPE: dict[str, type[Event]] = {{\n{table}\n}}\n"


def _classes(kind: type[Any]) -> Iterator[str]:
    hints = get_type_hints(kind)
    yield f"\n\n@dataclass(frozen=True, kw_only=True)\nclass {kind.__name__}Data:"
    yield from (f"    {field.name}: {_python(hints[field.name])}" for field in fields(kind))
    words = (inspect.getdoc(kind) or "").split("\n")
    yield f'\n\n@dataclass(frozen=True, kw_only=True)\nclass {kind.__name__}(Event):\n    """{words[0]}'
    yield from (f"    {line}".rstrip() for line in words[1:])
    yield f'    """\n\n    data: {kind.__name__}Data\n'


def _python(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _literal(member.value for member in hint)
    if get_origin(hint) is Literal:
        return _literal(get_args(hint))
    if get_args(hint) and get_origin(hint) in {list, dict}:
        return f"{get_origin(hint).__name__}[{', '.join(map(_python, get_args(hint)))}]"
    if get_args(hint):
        return " | ".join(map(_python, get_args(hint)))
    if is_typeddict(hint):
        # The package has it as a class of its own, beside the other answers.
        return str(hint.__name__).removesuffix("Data")
    if hint is NoneType:
        return "None"
    return "Any" if hint is Any else str(hint.__name__)


def _literal(values: Any) -> str:
    return f"Literal[{', '.join(repr(value).replace(chr(39), chr(34)) for value in values)}]"


def main() -> None:
    sys.path.insert(0, str(HERE.parents[1]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "svops.settings")
    import django

    django.setup()
    TARGET.write_text(source())


if __name__ == "__main__":
    main()

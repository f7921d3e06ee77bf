"""`python clients/python/make_async.py` writes `svops_client/aio.py` from `client.py`: the same methods, awaited."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "src/svops_client"
SOURCE, TARGET = HERE / "client.py", HERE / "aio.py"
TITLE = '"""The client that awaits. Made from `client.py` by `make_async.py`; do not edit."""'
# What waits for the platform; `iterate` gives an iterator at once.
WAITS = re.compile(r"self\._driver\.(?:run|close)\(|self\._control\(")
WORDS = {
    r"\A\"\"\".*?\"\"\"": TITLE,
    r"\b(Client|Workflow|Run)\b(?!`)": r"Async\1",
    r"\bSyncDriver\b": "AsyncDriver",
    r"svops_client\._sync": "svops_client._async",
    r"\bBaseTransport\b": "AsyncBaseTransport",
    r"\bIterator\b": "AsyncIterator",
    r" Safe to use in several threads\.": " For one event loop.",
    r"def __enter__": "async def __aenter__",
    r"def __exit__": "async def __aexit__",
    r"        self\.close\(\)": "        await self.close()",
}


def source() -> str:
    """Return the text of the module."""
    text = SOURCE.read_text()
    for pattern, replacement in WORDS.items():
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    functions = re.split(r"(?m)^(?=    (?:def|async def) )", text)
    return _tidy("".join(map(_awaiting, functions)))


def _awaiting(function: str) -> str:
    if not WAITS.search(function):
        return function
    return WAITS.sub(lambda found: f"await {found.group()}", function.replace("    def ", "    async def ", 1))


def _tidy(text: str) -> str:
    """Sort the imports and break the lines, which the new names have made longer."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        argv = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET), "-"]
        text = subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    TARGET.write_text(source())

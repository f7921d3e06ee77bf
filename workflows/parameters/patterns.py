"""Regular expressions of DAG authors and callers, in linear time.

Airflow searches with Python's `re`, which backtracks: `^(a+)+$` and 29 characters keep it busy for minutes. Here a
pattern is read with Python's own parser, so that it means the same, and written for RE2, which takes time in proportion
to the text. A pattern that RE2 cannot express is not run at all: Airflow has the last word on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from re import ASCII, DOTALL, IGNORECASE, MULTILINE
from typing import Any

import re2

# They have no stubs.
_constants: Any = import_module("re._constants")
_parser: Any = import_module("re._parser")

LONGEST_PATTERN = 1_000
LARGEST_PROGRAM = 1 << 20  # bytes of memory that RE2 may use for one pattern
BACKWARD = -1

# What Python's \s, \d and \w mean for text, written for RE2.
SPACE = r"\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
CLASSES = {"SPACE": SPACE, "DIGIT": r"\p{Nd}", "WORD": r"\p{L}\p{N}_"}
ASCII_CLASSES = {"SPACE": r"\x09-\x0d\x20", "DIGIT": "0-9", "WORD": "0-9A-Za-z_"}


class UnsupportedError(ValueError):
    """RE2 has nothing with the same meaning."""


@lru_cache(maxsize=1_000)
def search(pattern: str) -> Callable[[str], bool] | None:
    """Return the search for a pattern, or None if it cannot be done in linear time. Raises `re.error`."""
    if len(pattern) > LONGEST_PATTERN:
        return None
    options = re2.Options()
    options.max_mem, options.log_errors = LARGEST_PROGRAM, False
    try:
        parsed = _parser.parse(pattern)
        compiled = re2.compile(_written(parsed, parsed.state.flags, is_last=True), options)
    except (UnsupportedError, RecursionError, re2.error):
        return None
    return lambda text: compiled.search(text) is not None


def is_regex(text: str) -> bool:
    """Return whether Python can compile a text, without compiling it: that can take minutes for 64 KB."""
    try:
        _require_fixed_width(_parser.parse(text))
    except (_constants.error, RecursionError, OverflowError):
        return False
    return True


def _require_fixed_width(parsed: Any) -> None:
    for op, argument in parsed:
        if str(op) in {"ASSERT", "ASSERT_NOT"} and argument[0] == BACKWARD:
            shortest, longest = argument[1].getwidth()
            if shortest != longest:
                raise _constants.error("look-behind requires fixed-width pattern")
        for inner in _parts(argument):
            _require_fixed_width(inner)


def _parts(argument: Any) -> Iterable[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for inner in argument:
            yield from _parts(inner)


def _written(parsed: Iterable[Any], flags: int, *, is_last: bool) -> str:
    """Return the pattern for RE2. `is_last` says that nothing follows: only there RE2 can do what `$` means."""
    items = list(parsed)
    last = len(items) - 1
    return "".join(_item(op, argument, flags, is_last and at == last) for at, (op, argument) in enumerate(items))


def _item(op: Any, argument: Any, flags: int, is_last: bool) -> str:
    match str(op):
        case "LITERAL":
            return _cased(_code(argument), flags)
        case "NOT_LITERAL":
            return _cased(f"[^{_code(argument)}]", flags)
        case "ANY":
            return "(?s:.)" if flags & DOTALL else r"[^\n]"
        case "IN":
            return _cased(_class(argument, flags), flags)
        case "AT":
            return _place(str(argument), flags, is_last)
        case "BRANCH":
            return f"(?:{'|'.join(_written(branch, flags, is_last=is_last) for branch in argument[1])})"
        case "SUBPATTERN":
            _, added, removed, inner = argument
            return f"(?:{_written(inner, (flags | added) & ~removed, is_last=is_last)})"
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = argument
            once = _written(inner, flags, is_last=is_last and most == 1)
            return f"(?:{once}){{{least},{'' if most is _constants.MAXREPEAT else most}}}"
    raise UnsupportedError(str(op))


def _place(where: str, flags: int, is_last: bool) -> str:
    is_multiline = bool(flags & MULTILINE)
    match where:
        case "AT_BEGINNING":
            return "(?m:^)" if is_multiline else r"\A"
        case "AT_BEGINNING_STRING":
            return r"\A"
        case "AT_END_STRING":
            return r"\z"
        case "AT_END" if is_multiline:
            return "(?m:$)"
        case "AT_END" if is_last:
            return r"(?:\n?\z)"  # before a line feed at the end, too
        case "AT_BOUNDARY" if flags & ASCII:
            return r"\b"
        case "AT_NON_BOUNDARY" if flags & ASCII:
            return r"\B"
    raise UnsupportedError(where)


def _class(items: Iterable[Any], flags: int) -> str:
    """Return a set of characters. A negated category beside others becomes an alternative of its own."""
    named = ASCII_CLASSES if flags & ASCII else CLASSES
    is_negated, inside, beside = False, "", []
    for op, argument in items:
        name = str(argument).removeprefix("CATEGORY_")
        if str(op) == "NEGATE":
            is_negated = True
        elif str(op) == "CATEGORY" and name.startswith("NOT_"):
            beside.append(named[name.removeprefix("NOT_")])
        else:
            inside += named[name] if str(op) == "CATEGORY" else _member(op, argument)
    if not beside:
        return f"[{'^' if is_negated else ''}{inside}]"
    if is_negated and (inside or len(beside) > 1):
        raise UnsupportedError("an intersection of sets")
    if is_negated:
        return f"[{beside[0]}]"
    return f"(?:{'|'.join([*([f'[{inside}]'] if inside else []), *(f'[^{one}]' for one in beside)])})"


def _member(op: Any, argument: Any) -> str:
    return _code(argument) if str(op) == "LITERAL" else f"{_code(argument[0])}-{_code(argument[1])}"


def _code(character: int) -> str:
    return f"\\x{{{character:x}}}"


def _cased(written: str, flags: int) -> str:
    return f"(?i:{written})" if flags & IGNORECASE else written

"""A pattern means the same as in Python, or it is not run."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.parameters import patterns

TEXTS = [
    "", "a", "A", "b", "ab", "abc", "a\n", "a\nb", "\n", "1", "12", "٣", "x1", " ", "\u00a0", "\x1c", "_", "-", "ä",
    "Ä", "aaa", "a.b", "2026-11-28", "user@example.com", "K", "\u017f", "s", "日本", "½", "a\tb", "a]b", "\\", "^",
    "😀",
]  # fmt: skip
SAME = [
    "", "a", "^a$", r"\Aa\Z", "a|b", "^(a|b)+$", "a.b", "(?s)a.b", "^.$", "(?i)^A$", "(?i)[a-k]", "[^a]", r"^\d+$",
    r"\D",
    r"^\s$", r"\S", r"^\w+$", r"\W", r"[\w-]+", r"[\W\d]", r"[^\W]", r"(?a)^\w+$", r"(?a)\d", r"(?a)\bab\b", "(?m)^b$",
    "^a{2,3}$", "a{3}", "a*?b", "(?P<year>[0-9]{4})-[0-9]{2}", "(?:ab)?c", "^(a$|b)", "(a$)?", "[]]", r"\\", r"\^", "ä",
    "(?i)ä", r"\u00e4", r"^[^@\s]+@[^@\s]+$", "(?x) a b  # comment", "(?i:a)B", "[\U0001f600]", "^$", "$", "a$",
]  # fmt: skip
LEFT_TO_AIRFLOW = [
    "^(?!x)", "(?=a)", "(?<=a)b", r"(a)\1", "(?P<q>a)(?P=q)", "(a)?(?(1)b|c)", r"\bab\b", "a$b", "^.{1,4000}$",
    r"[^\W_]", "a" * 1_001, "(?:(?:a{100}){100}){100}", "(?>a+)b", "a++b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SAME)
def test_a_pattern_finds_what_python_finds(pattern: str) -> None:
    search = patterns.search(pattern)

    assert search
    assert [text for text in TEXTS if search(text)] == [text for text in TEXTS if re.search(pattern, text)]


@pytest.mark.parametrize("pattern", LEFT_TO_AIRFLOW, ids=lambda pattern: pattern[:20])
def test_a_pattern_that_cannot_be_searched_for_in_linear_time_is_not_run(pattern: str) -> None:
    if sys.version_info >= (3, 11) or not set(pattern) & {">", "+"}:
        assert patterns.search(pattern) is None


@given(pattern=st.text(alphabet="ab1 .|()[]^$*+?\\dwsDWS-,{}i:\n", max_size=12), text=st.text("ab1 \n-ä", max_size=8))
@settings(max_examples=600, deadline=None)
def test_whatever_python_accepts_means_the_same_or_is_not_run(pattern: str, text: str) -> None:
    try:
        expected = re.search(pattern, text) is not None
    except (re.error, FutureWarning):
        return
    search = patterns.search(pattern)

    assert search is None or search(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "(", "[a-z]", "(?<=a)b", "(?<=a+)b", "a**", "(?P<1>a)", "\\", "a{2,1}", "(" * 5_000]
)
def test_a_regex_is_recognized_without_compiling_it(text: str) -> None:
    try:
        re.compile(text)
        expected = True
    except (re.error, RecursionError):
        expected = False

    assert patterns.is_regex(text) is expected

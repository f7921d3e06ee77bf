"""Compares names as readers see them: with a Cyrillic letter in it, `root-admin` is still `root-admin`.

The skeleton is that of Unicode Technical Standard 39, section 4. The comparison is the same on every database.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from functools import cache
from importlib.resources import files

LEFT_TO_RIGHT = "\u200e"  # the table puts it around characters that are written from right to left


def skeleton(name: str) -> str:
    """Return what is the same for all names that look alike. Nobody reads it: `m` becomes `rn`."""
    table = _prototypes()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name))
    visible = (char for char in decomposed if unicodedata.category(char)[0] != "C")
    return unicodedata.normalize("NFD", "".join(table.get(char, char) for char in visible))


def looks(name: str) -> tuple[str, str]:
    """Return the two looks of a name. Names whose looks have one in common are the same to a reader.

    Case makes no difference, and some letters look alike in one case only: the capital `I` is a small `l`, `i` is not.
    So the first look folds the case before the skeleton is made, and the second one after it.
    """
    name = " ".join(name.split())
    return skeleton(_in_ascii(name).casefold()).casefold(), skeleton(name).casefold()


def _in_ascii(name: str) -> str:
    """Replace foreign letters by the ASCII letters that they look like, in their case."""
    table = _prototypes()
    letters = []
    for char in unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name)):
        alike = char if char.isascii() else table.get(char, char)
        # The prototype of every vertical stroke is `l`, also that of the capitals.
        letters.append("I" if alike == "l" and char.isupper() else alike)
    return "".join(letters)


def digests(name: str) -> tuple[str, str]:
    """Return the looks in a fixed length: a skeleton may be much longer than its name."""
    folded, cased = (hashlib.sha256(look.encode()).hexdigest() for look in looks(name))
    return folded, cased


def is_alike(one: str, other: str) -> bool:
    """Return whether readers would confuse the names."""
    return not set(looks(one)).isdisjoint(looks(other))


@cache
def _prototypes() -> dict[str, str]:
    """Return Unicode's table: each character that looks like another one, with the one that stands for all of them.

    The library has it as pairs in both directions. A prototype has all its look-alikes, a look-alike its prototype. In
    a pair of two, either may stand for both.
    """
    table = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text("utf-8"))
    prototypes = {}
    for text, alike in table.items():
        char, others = text.strip(LEFT_TO_RIGHT), [other["c"].strip(LEFT_TO_RIGHT) for other in alike]
        if len(char) != 1 or len(others) != 1:
            continue
        is_pair = len(table[alike[0]["c"]]) == 1
        prototype = others[0] if not is_pair or len(others[0]) > 1 else min(char, others[0])
        prototypes[char] = unicodedata.normalize("NFD", prototype)
    return prototypes

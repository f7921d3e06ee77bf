"""`{% preload 'console/main.js' %}`: lets the browser ask for all modules of a page at once."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from posixpath import join, normpath

from django import template
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()

# `import … from "./x.js"`, over several lines too, and `import "./x.js"`.
IMPORT = re.compile(r"""^(?:import|export)\b(?:[^;'"]*\bfrom)?\s+["'](\.[^"']+)["']""", re.MULTILINE)


@register.simple_tag
def preload(module: str) -> SafeString:
    """Return a link for each module that this one imports, directly or not.

    Without them the browser would learn of a module only when it has read the one that imports it.
    """
    links = ((static(name),) for name in imported_by(module))
    return format_html_join("\n  ", '<link rel="modulepreload" href="{}">', links)


@cache
def imported_by(module: str) -> tuple[str, ...]:
    found: list[str] = []
    waiting = [module]
    while waiting:
        text = Path(str(finders.find(waiting[0]))).read_text()
        folder = waiting.pop(0).rpartition("/")[0]
        names = (normpath(join(folder, path)) for path in IMPORT.findall(text))
        new = [name for name in names if name not in found and name != module]
        found += new
        waiting += new
    return tuple(dict.fromkeys(found))

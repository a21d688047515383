"""SQL kept as SQL: a file beside the module that uses it, made of statements or parts of one, each named and described.

    -- name: what it is called
    -- What it does, for the reader; not sent.
    SELECT ...

`{words}` in braces are filled in by the module.
"""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n((?:--[^\n]*\n)*)", re.MULTILINE)
_WORD = re.compile(r"\{(\w+)\}")


def parts(path: Path) -> dict[str, str]:
    """The parts of a file by name, without their descriptions. Raises `ValueError` for a name that stands there twice."""
    pieces = _NAME.split(path.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for name, _about, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if name in found:
            raise ValueError(f"{path.name}: {name} stands there twice")
        found[name] = text.strip("\n")
    return found


def beside(module: str, name: str = "") -> dict[str, str]:
    """The parts of the file that lies beside a module (its `__file__`), under the module's name or another."""
    path = Path(module)
    return parts(path.with_name(f"{name or path.stem}.sql"))


def filled(text: str, **words: str) -> str:
    """A part with its words filled in. Raises `KeyError` for a word without a value."""
    return _WORD.sub(lambda found: words[found[1]], text)

"""Escape user-supplied names, so that Markdown and Matplotlib show them literally."""

from __future__ import annotations

import re

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"([\\`*\[\]|~$])|((?<!\w)_|_(?!\w))")
_SHOWN = 100  # characters of a name that fit on a line of a figure


def one_line(text: object) -> str:
    """Return the text on one line, without invisible characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in str(text)).split())


def in_markdown(text: object) -> str:
    """Return the text on one line, escaped for Markdown, HTML and table cells."""
    escaped = "".join(_HTML.get(character, character) for character in one_line(text))
    return _MARKUP.sub(r"\\\g<0>", escaped)


def in_figure(text: object, most: int = _SHOWN) -> str:
    """Return the text on one line, escaped for Matplotlib.

    Matplotlib reads text between two `$` as a formula. A text of more than `most` characters loses its middle, because
    similar names mostly differ at an end.
    """
    line = one_line(text)
    if len(line) > most:
        head = (most - 1) // 2
        line = f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"
    return line.replace("$", r"\$")

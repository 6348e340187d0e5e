"""Names that others chose, instances and metrics, put into Markdown and into figures as the text that they are."""

from __future__ import annotations

import re

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"([\\`*\[\]|~$])|((?<!\w)_|_(?!\w))")
_SHOWN = 100  # characters of a name that a line of a figure has room for


def one_line(text: object) -> str:
    """The text without line breaks and without characters that cannot be seen."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())


def in_markdown(text: object) -> str:
    """The text on one line, so that Markdown, HTML inside it and a table's columns show it as it is."""
    escaped = "".join(_HTML.get(each, each) for each in one_line(text))
    return _MARKUP.sub(r"\\\g<0>", escaped)


def in_figure(text: object, most: int = _SHOWN) -> str:
    r"""The text on one line for Matplotlib, which reads what stands between two ``$`` as a formula.

    A longer one loses its middle: names of one kind mostly differ at an end.
    """
    line = one_line(text)
    if len(line) > most:
        head = (most - 1) // 2
        line = f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"
    return line.replace("$", r"\$")

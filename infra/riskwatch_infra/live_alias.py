"""Deploying never moves what serves: alias `live` keeps its version through an update of the stack.

CloudFormation sends the version of the template with every change of the alias, and that version is the placeholder.
`stack-policy.json` makes CloudFormation refuse such a change. `kept` is the second guard, for an implementation of AWS
that stores stack policies and does not apply them, as the embedded AWS does.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from riskwatch_ml.registry import release, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALIAS = "live"
"""Name of the alias in the template."""


@contextmanager
def kept(functions: Any, function: str | None, report: Callable[[str], None]) -> Iterator[None]:
    """Move the alias back if the stack moves it inside the block.

    The alias is compared at the end of the block, if the block raises too. A promotion or restoration that another user
    made meanwhile stays. `functions` is a Lambda client, `function` None if the stack does not exist yet. `report` gets
    one line for people if the alias was moved back.

    Raises
    ------
    ReleaseError
        The alias does not exist, or it was moved and cannot be moved back.
    """
    before = serving.alias_target(functions, function, ALIAS) if function else None
    if function is None or before is None or before.checksum is None:
        # No model serves, so there is nothing to keep.
        yield
        return
    try:
        yield
    finally:
        now = serving.alias_target(functions, function, ALIAS)
        if now.function_version != before.function_version and not _is_released(functions, function, now):
            release.restore(functions, function, ALIAS, before.function_version, only_from=now.function_version)
            report(
                f"The update moved alias {ALIAS} of {function} to version {now.function_version}; it is back on "
                f"version {before.function_version} (checksum {before.checksum}). Undo the change of LiveAlias or "
                "PlaceholderVersion in the template."
            )


def _is_released(functions: Any, function: str, target: serving.AliasTarget) -> bool:
    """Return whether a promotion or a restoration moved the alias to its target.

    The placeholder is never released: CloudFormation keeps a description that the template no longer has.
    """
    description = functions.get_alias(FunctionName=function, Name=ALIAS).get("Description") or ""
    return target.checksum is not None and release.is_released(description)

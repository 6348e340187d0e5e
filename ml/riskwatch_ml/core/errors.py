"""Root of the project's errors: one child for wrong input, one for failures.

`riskwatch_lambda` has its own errors, because it is deployed without this package.
"""


class RiskwatchError(Exception):
    """Something is wrong; the message states the problem, the value and the fix."""


class UserInputError(RiskwatchError):
    """The user can fix it: settings, files, rows or the order of steps.

    The message is shown alone, without a traceback.
    """


class OperationError(RiskwatchError):
    """An operation failed; the traceback goes to a log."""

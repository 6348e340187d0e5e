"""The errors of the project: one root and two children, which say who can do something about it.

What the function raises stands apart: it travels without this package.
"""


class RiskwatchError(Exception):
    """Something is wrong; the message says what, with the value, and what to do."""


class UserInputError(RiskwatchError):
    """The user can put it right: settings, files, rows, the order of steps. The message is all there is to see."""


class OperationError(RiskwatchError):
    """Something failed that the user did not ask for; where it did is in the traceback, which goes to a log."""

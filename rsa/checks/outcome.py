"""Outcomes of checks: a check returns a description if it passes, and raises one of these otherwise."""


class FailedError(Exception):
    """A check did not pass."""


class SkippedError(Exception):
    """A check cannot be made here."""

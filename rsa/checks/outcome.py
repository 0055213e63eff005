"""What a check comes to: words where all is well, else one of these."""


class FailedError(Exception):
    """A check did not pass."""


class SkippedError(Exception):
    """A check cannot be made here."""

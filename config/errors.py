"""Errors that come from outside of a program and stop it."""


class CannotRun(Exception):
    """Something outside the program stops it. The message names it in a sentence, and the remedy."""


class BadSettings(CannotRun):
    """The environment isn't fit to start with. Each line of the message names a variable or a file."""

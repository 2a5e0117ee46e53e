"""Errors that come from outside of a program and stop it."""


class CannotRun(Exception):
    """Something outside the program stops it. The message says in a sentence what it is, and what to do."""


class BadSettings(CannotRun):
    """The environment isn't fit to start with. Each line of the message names a variable or a file."""

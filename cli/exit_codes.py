"""Exit statuses of commands (README.md, "The terminal")."""

MISMATCH = 1
COULD_NOT_RUN = 2


class MismatchFound(Exception):
    """A mismatch was found, and is in the result."""

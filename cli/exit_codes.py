"""Exit statuses of commands (README.md, "The terminal")."""

DIFFERENCE = 1
COULD_NOT_RUN = 2


class DifferenceFound(Exception):
    """A mismatch was found, and is in the result."""

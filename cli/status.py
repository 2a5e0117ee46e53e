"""How a command ends (README.md, "The terminal")."""

DIFFERENCE = 1
COULD_NOT_RUN = 2


class DifferenceFound(Exception):
    """What was looked at isn't as it should be; the result has said so."""

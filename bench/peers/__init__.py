"""Alternatives to Daybook that it is compared with."""

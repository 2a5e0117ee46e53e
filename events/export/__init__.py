"""Exports of a user's log, and their verification without a database."""

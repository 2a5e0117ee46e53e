"""Benchmarks of speed and memory, run against a real Postgres and a real service."""

"""Benchmarks: how fast, and in how much memory, measured on a real Postgres and a real service."""

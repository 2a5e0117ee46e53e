"""The read side: SQL in, JSON out, from the projection only."""

"""The read side: SQL in, JSON out. The present is read from the projection, the past and the audit from the log."""

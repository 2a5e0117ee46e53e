"""The read side: SQL in, JSON out. The present comes from the projection, the past and the trail from the log."""

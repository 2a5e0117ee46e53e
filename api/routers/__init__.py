"""The endpoints: tasks, audit, health, metrics."""

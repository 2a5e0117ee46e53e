"""What a user might pick instead of Daybook, to be measured beside it."""

"""The write side: commands, the decider, and the command handler that carries them out."""

"""The write side: what may be asked for, what is decided, and the one function that carries it out."""

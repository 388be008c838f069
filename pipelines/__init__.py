"""The stages of Vintix and what they share; no command line, no printing."""

__version__ = "0.1.0"

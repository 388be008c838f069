"""Policies as data: a kind, a JSON configuration and arrays; never pickled code."""

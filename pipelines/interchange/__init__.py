"""Formats of others: importing them into artifacts and exporting artifacts to them."""

"""Packing: from learning histories to one training dataset."""

"""Learners: policies from training, for demonstrators and for learning histories."""

"""The one engine that plays episodes: everything that steps an environment goes through it."""

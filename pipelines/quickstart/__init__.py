"""The five stages in a row, small enough for a laptop."""

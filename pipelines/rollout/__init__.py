"""Many-shot, cold-start evaluation of a checkpoint: streams, scores and curves (section 3.1)."""

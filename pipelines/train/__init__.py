"""The stage `train`: Algorithm Distillation on a packed dataset (section 2.3.2 of the paper)."""

"""The Vintix action model: per-group encoders and heads around one causal ALiBi transformer."""

"""Noise distillation: from a demonstrator to learning histories (paper, section 2.1)."""

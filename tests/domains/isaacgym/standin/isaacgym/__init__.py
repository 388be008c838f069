"""A stand-in for Isaac Gym in tests: what the worker touches of it, and how it behaves there.

As in Isaac Gym, all copies are stepped together, tensors show the simulator's state only after a
refresh, what is set is taken over for all of the tensor, and bodies move only in a step.
"""

import sys

if "torch" in sys.modules and not getattr(sys, "_standin_torch_first", False):
    raise ImportError("isaacgym has to be imported before torch")

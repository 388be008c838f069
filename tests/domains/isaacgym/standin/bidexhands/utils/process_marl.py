def get_AgentIndex(cfg):  # noqa: N802
    return [[[0]], [[0]]]

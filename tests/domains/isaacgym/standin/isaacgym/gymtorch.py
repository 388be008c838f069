def unwrap_tensor(tensor):
    return tensor

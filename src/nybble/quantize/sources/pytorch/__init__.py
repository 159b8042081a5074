"""PyTorch modules, captured by ``torch.export``."""

"""NVIDIA GPUs. The emulated one is a variant of this backend: all but the device is the same code."""

from nybble.backends.cuda.executable import CudaBackend
from nybble.backends.cuda.open import open_emulated, open_gpu

__all__ = ["backend", "variants"]

backend = CudaBackend("cuda", open_gpu, batch_images=64)
#: By what follows the dash of the device's name.
variants = {"emulated": CudaBackend("cuda-emulated", open_emulated, batch_images=4)}

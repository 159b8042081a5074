"""NVIDIA GPUs. The emulated GPU is a variant of this backend: only the device differs."""

from nybble.backends.cuda.executable import CudaBackend
from nybble.backends.cuda.open import open_emulated, open_gpu

__all__ = ["backend", "variants"]

backend = CudaBackend("cuda", open_gpu, batch_images=64)
#: Variants of the backend, by the part of the device's name after the dash.
variants = {"emulated": CudaBackend("cuda-emulated", open_emulated, batch_images=4)}

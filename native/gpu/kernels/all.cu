// What NVRTC compiles: every kernel for the generation that NYBBLE_GPU_ARCH names.
#include "gpu/kernels/module.h"

#include "gpu/kernels/kernels.h"

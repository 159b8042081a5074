// The functions of the machine that a kernel may use: threads, memory, barriers, matrix products.
//
// NVRTC compiles it to instructions (ptx.h), the host's compiler to the emulator.
#pragma once

#ifdef __CUDACC_RTC__
#include "gpu/kernels/ptx.h"
#else
#include "gpu/emulator/device.h"
#endif

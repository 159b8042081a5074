#define NYBBLE_GPU_ARCH 80
#include "gpu/emulator/kernels.h"
#include "gpu/emulator/table.inc.h"

const nybble::gpu::emulator::Kernel kTable[] = {
#include "gpu/kernels/kernels.h"
};

const std::span<const nybble::gpu::emulator::Kernel> nybble::gpu::emulator::kKernels80 = kTable;

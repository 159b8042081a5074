// The kernels of each generation, compiled for the host, and their launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/emulator/block.h"

namespace nybble::gpu::emulator {

struct Kernel {
  const char* name;
  Function function;
  std::size_t params_bytes;
  int threads;
  std::size_t shared_bytes;
};

extern const std::span<const Kernel> kKernels75, kKernels80, kKernels90;
// Kernels that do something wrong, or nearly: for the tests of the emulator.
extern const std::span<const Kernel> kFaults;

// Throws Error unless `generation` is 75, 80 or 90, or 0 for kFaults.
std::span<const Kernel> kernels_of(int generation);

// Runs every block, one after the other, in an order that `seed` draws. Throws Error on what a thread does wrong.
void launch(const Kernel& kernel, int grid_x, int grid_y, const void* params, std::uint64_t seed);

}  // namespace nybble::gpu::emulator

#include "gpu/emulator/kernels.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace nybble::gpu::emulator {

std::span<const Kernel> kernels_of(int generation) {
  switch (generation) {
    case 0:
      return kFaults;
    case 75:
      return kKernels75;
    case 80:
      return kKernels80;
    case 90:
      return kKernels90;
    default:
      throw Error("no kernels of generation " + std::to_string(generation));
  }
}

void launch(const Kernel& kernel, int grid_x, int grid_y, const void* params, std::uint64_t seed) {
  static std::uint64_t launches = 0;
  // Stacks are kept from launch to launch.
  static std::map<int, std::unique_ptr<Block>> blocks;
  std::unique_ptr<Block>& block = blocks[kernel.threads];
  if (block == nullptr) block = std::make_unique<Block>(kernel.threads);
  block->seed(seed);
  ++launches;
  std::vector<int> order(static_cast<std::size_t>(grid_x) * static_cast<std::size_t>(grid_y));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  for (const int index : order) {
    const Place place{index % grid_x, index / grid_x, index, launches};
    block->run(kernel.function, params, kernel.shared_bytes, place);
  }
}

}  // namespace nybble::gpu::emulator

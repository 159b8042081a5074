// The emulator with a plain C interface, for kernels that a test has changed: see mutants.py.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gpu/emulator/kernels.h"
#include "gpu/emulator/memory.h"

namespace emulator = nybble::gpu::emulator;

// One generation is linked, and takes the place of its empty list; there are no faults.
namespace nybble::gpu::emulator {
[[gnu::weak]] extern const std::span<const Kernel> kKernels75, kKernels80, kKernels90, kFaults;
const std::span<const Kernel> kKernels75 = {}, kKernels80 = {}, kKernels90 = {}, kFaults = {};
}  // namespace nybble::gpu::emulator

namespace {

std::string last_error;

template <typename Act>
int guarded(const Act& act) {
  try {
    act();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

extern "C" {

const char* nybble_error() { return last_error.c_str(); }

std::uintptr_t nybble_allocate(std::size_t bytes) { return emulator::memory().allocate(bytes); }

int nybble_release(std::uintptr_t at) {
  return guarded([&] { emulator::memory().release(at); });
}

int nybble_write(std::uintptr_t at, const void* from, std::size_t bytes) {
  return guarded([&] { emulator::memory().write(at, from, bytes); });
}

int nybble_read(void* to, std::uintptr_t at, std::size_t bytes) {
  return guarded([&] { emulator::memory().read(to, at, bytes); });
}

int nybble_launch(int generation, const char* name, int grid_x, int grid_y, const void* params, std::size_t bytes,
                  std::uint64_t seed) {
  return guarded([&] {
    for (const emulator::Kernel& kernel : emulator::kernels_of(generation)) {
      if (std::strcmp(kernel.name, name) != 0) continue;
      std::vector<std::uint64_t> aligned((bytes + 7) / 8);
      std::memcpy(aligned.data(), params, bytes);
      emulator::launch(kernel, grid_x, grid_y, aligned.data(), seed);
      return;
    }
    throw emulator::Error(std::string("no kernel ") + name);
  });
}
}

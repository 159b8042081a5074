// Kernels with vectors of 16 bytes, for tests on any processor.
#include "kernels/simd/vector16.h"
#include "base/cpu.h"

namespace nybble {
namespace {

constexpr Isa kIsa = Isa::vector16;
using Vector = Vector16;
using Staging = Bytes16;

}  // namespace
}  // namespace nybble

#include "kernels/lists/portable.inc.h"
#include "kernels/simd.inc.h"

namespace nybble {

constinit const KernelTable kVector16Kernels = kKernels;

}  // namespace nybble

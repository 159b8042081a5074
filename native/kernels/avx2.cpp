// AVX2 kernels.
#include "kernels/simd/avx2.h"
#include "base/cpu.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

constexpr Isa kIsa = Isa::avx2;
using Vector = Avx2;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

#include "kernels/lists/avx2.inc.h"
#include "kernels/simd.inc.h"

namespace nybble {

constinit const KernelTable kAvx2Kernels = kKernels;

}  // namespace nybble

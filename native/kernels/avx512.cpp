// AVX-512 kernels.
#include "kernels/simd/avx512.h"
#include "base/cpu.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

constexpr Isa kIsa = Isa::avx512;
using Vector = Avx512;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

#include "kernels/lists/avx512.inc.h"
#include "kernels/simd.inc.h"

namespace nybble {

constinit const KernelTable kAvx512Kernels = kKernels;

}  // namespace nybble

// AVX-512 VNNI kernels.
#include "kernels/simd/avx512vnni.h"
#include "base/cpu.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

constexpr Isa kIsa = Isa::avx512vnni;
using Vector = Avx512Vnni;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

#include "kernels/lists/avx512.inc.h"
#include "kernels/simd.inc.h"

namespace nybble {

constinit const KernelTable kAvx512VnniKernels = kKernels;

}  // namespace nybble

// AVX-512 kernels.
#include "kernels/simd/avx512.h"

#include "kernels/simd/bytes32.h"
#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx512;

#include "kernels/lists/avx512.inc.h"
#include "kernels/simd.inc.h"

}  // namespace

const KernelTable kAvx512Kernels = simd_kernels(Isa::avx512, false);

}  // namespace nybble

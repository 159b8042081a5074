// AVX2 kernels.
#include "kernels/simd/avx2.h"

#include "kernels/simd/bytes32.h"
#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx2;

#include "kernels/lists/avx2.inc.h"
#include "kernels/simd.inc.h"

}  // namespace

const KernelTable kAvx2Kernels = simd_kernels(Isa::avx2, false);

}  // namespace nybble

// AVX-512 VNNI kernels.
#include "kernels/simd/avx512vnni.h"

#include "kernels/simd/bytes32.h"
#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx512Vnni;

#include "kernels/lists/avx512.inc.h"
#include "kernels/simd.inc.h"

}  // namespace

const KernelTable kAvx512VnniKernels = simd_kernels(Isa::avx512vnni, true);

}  // namespace nybble

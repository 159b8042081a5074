// AVX2 kernels.
#include "kernels/simd/avx2.h"

#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx2;

#include "kernels/conv/direct.inc.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/wide.inc.h"
#include "kernels/lists/avx2.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kAvx2Kernels = {Isa::avx2, conv_direct, conv_sparse, conv_wide, build_lists, max_pool, average_pool};

}  // namespace nybble

// AVX-512 kernels.
#include "kernels/simd/avx512.h"

#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx512;

#include "kernels/conv/direct.inc.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/wide.inc.h"
#include "kernels/lists/avx512.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kAvx512Kernels = {Isa::avx512,  conv_direct, conv_sparse, conv_wide,
                                    build_lists, max_pool,    average_pool};

}  // namespace nybble

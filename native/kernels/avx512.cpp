// AVX-512 kernels.
#include "kernels/simd/avx512.h"

#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx512;

#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/lists/avx512.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kAvx512Kernels = {
    .isa = Isa::avx512,
    .conv_direct = conv_direct,
    .conv_sparse = conv_sparse,
    .conv_sparse_quad = conv_sparse_quad,
    .most_quad_outputs = kMostQuadOutputs,
    .conv_wide = conv_wide,
    .conv_quad = conv_quad,
    .quad_takes_any = false,
    .pair_lists = build_pair_lists,
    .quad_lists = build_quad_lists,
    .max_pool = max_pool,
    .average_pool = average_pool,
};

}  // namespace nybble

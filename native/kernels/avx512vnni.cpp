// AVX-512 VNNI kernels.
#include "kernels/simd/avx512vnni.h"

#include "kernels/table.h"

namespace nybble {
namespace {

using Vector = Avx512Vnni;

#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/lists/avx512.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kAvx512VnniKernels = {
    .isa = Isa::avx512vnni,
    .conv_direct = conv_direct,
    .conv_sparse = conv_sparse,
    .conv_sparse_quad = conv_sparse_quad,
    .most_quad_outputs = kMostQuadOutputs,
    .conv_wide = conv_wide,
    .conv_quad = conv_quad,
    .quad_takes_any = true,
    .pair_lists = build_pair_lists,
    .quad_lists = build_quad_lists,
    .max_pool = max_pool,
    .average_pool = average_pool,
};

}  // namespace nybble

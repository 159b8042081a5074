// All kernels of an instruction set with vectors, and its table. Included by its file, after `kIsa`, the vector types
// `Vector` and `Staging`, and the lists of that vector size. A new convolution kernel is a line here.
#pragma once

#include "kernels/conv/chained.inc.h"
#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/pair.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/winograd.inc.h"
#include "kernels/mul/mul.inc.h"
#include "kernels/pool/pool.inc.h"
#include "kernels/table.h"
#include "kernels/table/table.inc.h"

namespace nybble {
namespace {

constexpr ConvRow kRows[] = {
    kDirectRow, kGroupedRow, kWideRow, kChainedRow, kQuadRow, kPairRow, kWinogradRow, kSparseRow, kSparseQuadRow,
};

constexpr KernelTable kKernels = {
    .isa = kIsa,
    .conv_rows = kRows,
    .conv_count = sizeof kRows / sizeof kRows[0],
    .pair_lists = build_pair_lists,
    .quad_lists = build_quad_lists,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .table = table_vectors,
    .mul = mul_vectors,
};

}  // namespace
}  // namespace nybble

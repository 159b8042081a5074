// The convolution kernels of an instruction set with vectors: a new one is a line here. Included by one file per
// instruction set, after `kIsa` and the vector types `Vector` and `Staging`.
#pragma once

#include "kernels/conv/chained.inc.h"
#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/kernels.h"
#include "kernels/conv/pair.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/winograd.inc.h"

namespace nybble {
namespace {

constexpr ConvRow kRows[] = {
    kDirectRow, kGroupedRow, kWideRow, kChainedRow, kQuadRow, kPairRow, kWinogradRow, kSparseRow, kSparseQuadRow,
};

constexpr ConvKernels kConvKernels = {kRows, sizeof kRows / sizeof kRows[0]};

}  // namespace
}  // namespace nybble

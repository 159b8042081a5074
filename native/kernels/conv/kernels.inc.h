// The convolution kernels of an instruction set with vectors: a new one is a line here. Included by one file per
// instruction set, after `kIsa` and the vector types `Vector` and `Staging`.
#pragma once

#include <array>

#include "kernels/conv/chained.inc.h"
#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/inner.inc.h"
#include "kernels/conv/kernels.h"
#include "kernels/conv/pair.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/winograd.inc.h"
#include "kernels/conv/winograd_quad.inc.h"

namespace nybble {
namespace {

// `more` are those that need dot products of unsigned bytes, where the vector type has them.
template <class... More>
constexpr auto rows_with(const More&... more) {
  return std::array{kDirectRow,   kGroupedRow,      kWideRow,   kChainedRow,    kQuadRow, kPairRow,
                    kWinogradRow, kWinogradQuadRow, kSparseRow, kSparseQuadRow, more...};
}

template <class V>
constexpr auto all_rows() {
  if constexpr (V::kHasDotProducts && !V::kHasSignedQuads)
    return rows_with(kInnerRow<V>, kWinogradInnerRow<V>);
  else
    return rows_with();
}

constexpr auto kRows = all_rows<Vector>();

constexpr ConvKernels kConvKernels = {kRows.data(), static_cast<int>(kRows.size())};

}  // namespace
}  // namespace nybble

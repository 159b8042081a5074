// The convolution kernels of an instruction set with vectors: a new one is a line here. Included by one file per
// instruction set, after `kIsa` and the vector types `Vector` and `Staging`.
#pragma once

#include <array>

#include "kernels/conv/chained.inc.h"
#include "kernels/conv/depthwise.inc.h"
#include "kernels/conv/direct.inc.h"
#include "kernels/conv/dot.inc.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/inner.inc.h"
#include "kernels/conv/kernels.h"
#include "kernels/conv/pair.inc.h"
#include "kernels/conv/single.inc.h"
#include "kernels/conv/sparse.inc.h"
#include "kernels/conv/sparse_single.inc.h"
#include "kernels/conv/winograd.inc.h"
#include "kernels/conv/winograd_quad.inc.h"

namespace nybble {
namespace {

// Kernels that need something of the vector type; none of them where it lacks that.
template <class V>
constexpr auto inner_rows() {
  // Sums of bytes are unsigned operands.
  if constexpr (V::kHasDotProducts && !V::kHasSignedQuads)
    return std::array{kInnerRow<V>, kWinogradInnerRow<V>};
  else
    return std::array<ConvRow, 0>{};
}

template <class V>
constexpr auto depthwise_rows() {
  if constexpr (V::kHasDotProducts)
    return std::array{kDepthwiseRow<V>};
  else
    return std::array<ConvRow, 0>{};
}

template <class V>
constexpr auto single_rows() {
  if constexpr (V::kHasSingleProducts)
    return std::array{kSingleRow<V>, kSparseSingleRow<V>};
  else
    return std::array<ConvRow, 0>{};
}

template <std::size_t... N>
constexpr auto joined(const std::array<ConvRow, N>&... parts) {
  std::array<ConvRow, (N + ...)> rows{};
  std::size_t count = 0;
  const auto append = [&](const auto& part) {
    for (const ConvRow& row : part) rows[count++] = row;
  };
  (append(parts), ...);
  return rows;
}

constexpr auto kRows = joined(std::array{kDirectRow, kGroupedRow, kWideRow, kChainedRow, kQuadRow, kPairRow,
                                         kWinogradRow, kWinogradQuadRow, kSparseRow, kSparseQuadRow},
                              inner_rows<Vector>(), depthwise_rows<Vector>(), single_rows<Vector>());

constexpr ConvKernels kConvKernels = {kRows.data(), static_cast<int>(kRows.size())};

}  // namespace
}  // namespace nybble

// Rows of weights, of which vectors that multiply single bytes load four at a time.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/tensor.h"

namespace nybble {
namespace {

// Calls function(index, vector) for each of the next N vectors, in order; `row` steps past them.
template <class V, int N, class F>
NYBBLE_INLINE void with_next_vectors(const std::uint8_t*& row, const F& function) {
  for_each_index<N / 4>([&](auto four) NYBBLE_LAMBDA {
    typename V::Bytes vectors[4];
    V::load_next_four(row, vectors);
    for_each_index<4>([&](auto i) NYBBLE_LAMBDA { function(std::integral_constant<int, 4 * four + i>{}, vectors[i]); });
  });
  for_each_index<N % 4>([&](auto i) NYBBLE_LAMBDA {
    function(std::integral_constant<int, N / 4 * 4 + i>{}, V::load(row + i * V::kBytes));
  });
  row += N % 4 * V::kBytes;
}

}  // namespace
}  // namespace nybble

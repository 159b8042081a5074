// Sums of products of matrices of bytes, as FEAT_I8MM of NEON has them: eight inputs of two pixels by those of two
// outputs are one operation. Included by the kernels with 32-bit sums of four inputs, which take eight then.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace nybble {
namespace {

// Sums of P pixels, an even number, and kVectors vectors of outputs, two by two.
template <class Vec, int P>
struct MatrixSums {
  using V = Vec;
  static_assert(P % 2 == 0);
  static constexpr int kVectors = V::kDotVectors;
  static constexpr int kGroup = 8;
  typename V::I32 sums[P / 2][2 * kVectors];

  // All pixels begin with start(i) for the outputs from i of the tile.
  template <class F>
  NYBBLE_INLINE explicit MatrixSums(const F& start) {
    for_each_index<kVectors>([&](auto n) NYBBLE_LAMBDA {
      const typename V::I32 first = start(n * V::kLanes32);
      const auto low = V::template row_of_pairs<0>(first, first), high = V::template row_of_pairs<1>(first, first);
      for_each_index<P / 2>([&](auto pair) NYBBLE_LAMBDA {
        sums[pair][2 * n] = low;
        sums[pair][2 * n + 1] = high;
      });
    });
  }

  // kGroup inputs of each pixel at `inputs`, by [output][input] of `weights`, which step on.
  NYBBLE_INLINE void add_next(const std::uint8_t* (&inputs)[P], const std::uint8_t*& weights) {
    typename V::Bytes loaded[P / 2];
    for_each_index<P / 2>(
        [&](auto pair) NYBBLE_LAMBDA { loaded[pair] = V::load_next_halves(inputs[2 * pair], inputs[2 * pair + 1]); });
    for_each_index<2 * kVectors / 4>([&](auto four) NYBBLE_LAMBDA {
      typename V::Bytes row[4];
      V::load_next_four(weights, row);
      for_each_index<P / 2>([&](auto pair) NYBBLE_LAMBDA {
        for_each_index<4>([&](auto i) NYBBLE_LAMBDA {
          sums[pair][4 * four + i] = V::add_matrix(sums[pair][4 * four + i], loaded[pair], row[i]);
        });
      });
    });
  }

  // The same of any number of groups.
  NYBBLE_INLINE void add_run(const std::uint8_t* (&inputs)[P], const std::uint8_t*& weights, std::int32_t groups) {
    // Two per iteration, which saves instructions of the loop.
    for (; groups >= 2; groups -= 2) {
      add_next(inputs, weights);
      add_next(inputs, weights);
    }
    if (groups != 0) add_next(inputs, weights);
  }

  // [pixel][output], `apart` from pixel to pixel.
  NYBBLE_INLINE void store(std::int32_t* out, std::int64_t apart) const {
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
      for_each_index<kVectors>([&](auto n) NYBBLE_LAMBDA {
        V::store32(out + p * apart + n * V::kLanes32,
                   V::template row_of_pairs<p % 2>(sums[p / 2][2 * n], sums[p / 2][2 * n + 1]));
      });
    });
  }
};

}  // namespace
}  // namespace nybble

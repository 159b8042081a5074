// Sums of dot products by a part of a vector of inputs, as FEAT_DotProd of NEON has them: a vector is loaded for four
// quads of inputs of a pixel. Included by the kernels with 32-bit sums of four inputs.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace nybble {
namespace {

// Sums of P pixels and kVectors vectors of outputs.
template <class Vec, int P>
struct LaneSums {
  using V = Vec;
  static constexpr int kVectors = V::kDotVectors;
  static constexpr int kGroup = 4;
  typename V::I32 sums[P][kVectors];

  // All pixels begin with start(i) for the outputs from i of the tile.
  template <class F>
  NYBBLE_INLINE explicit LaneSums(const F& start) {
    for_each_index<kVectors>([&](auto n) NYBBLE_LAMBDA {
      const typename V::I32 first = start(n * V::kLanes32);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA { sums[p][n] = first; });
    });
  }

  // kQuads quads of inputs of each pixel, at `inputs`, by [quad][output][input] of `weights`, which step on.
  template <int kQuads>
  NYBBLE_INLINE void add_next(const std::uint8_t* (&inputs)[P], const std::uint8_t*& weights) {
    typename V::Bytes loaded[P];
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA { loaded[p] = V::template load_next_quads<kQuads>(inputs[p]); });
    for_each_index<kQuads>([&](auto quad) NYBBLE_LAMBDA {
      typename V::Bytes row[kVectors];
      V::load_next_four(weights, row);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        for_each_index<kVectors>([&](auto n) NYBBLE_LAMBDA {
          sums[p][n] = V::template add_lane_quads<quad>(sums[p][n], loaded[p], row[n]);
        });
      });
    });
  }

  // The same of any number of quads.
  NYBBLE_INLINE void add_run(const std::uint8_t* (&inputs)[P], const std::uint8_t*& weights, std::int32_t quads) {
    // Two vectors per iteration, which saves instructions of the loop.
    for (; quads >= 8; quads -= 8) {
      add_next<4>(inputs, weights);
      add_next<4>(inputs, weights);
    }
    if ((quads & 4) != 0) add_next<4>(inputs, weights);
    if ((quads & 2) != 0) add_next<2>(inputs, weights);
    if ((quads & 1) != 0) add_next<1>(inputs, weights);
  }

  // [pixel][output], `apart` from pixel to pixel.
  NYBBLE_INLINE void store(std::int32_t* out, std::int64_t apart) const {
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
      for_each_index<kVectors>([&](auto n)
                                   NYBBLE_LAMBDA { V::store32(out + p * apart + n * V::kLanes32, sums[p][n]); });
    });
  }
};

}  // namespace
}  // namespace nybble

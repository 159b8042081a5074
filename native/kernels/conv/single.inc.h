// Convolution of any inputs of 8 bits, one of them by several outputs at a time, with 16-bit sums, groups of one, zeros
// not skipped: for vectors that add such products in one operation (smlal of NEON). Included by one file per
// instruction set, after its vector type.
//
// Inputs are signed bytes; larger unsigned ones get an offset. Products are added modulo 2^16, and pack_single cuts the
// window into segments whose sums fit 16 bits whatever the inputs are, as those of pairs (pair.inc.h).
#pragma once

#include "kernels/conv/next_vectors.inc.h"
#include "kernels/conv/pair.inc.h"

namespace nybble {
namespace {

template <class Vec>
struct SingleProducts {
  using V = Vec;
  static constexpr int kGroup = 1;
  static constexpr int kSums = 24;
  static NYBBLE_INLINE void stage(std::uint8_t* to, Staging::Bytes inputs) { Staging::store(to, inputs); }
  // The weights of a vector are those of two vectors of sums.
  template <int P, int N>
  static NYBBLE_INLINE void add(typename V::I16 (&acc)[P][N], const std::uint8_t* const* windows, std::int64_t place,
                                const std::uint8_t* row) {
    typename V::Bytes inputs[P];
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA { inputs[p] = V::broadcast_byte(windows[p] + place); });
    with_next_vectors<V, N / 2>(row, [&](auto j, typename V::Bytes weights) NYBBLE_LAMBDA {
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        acc[p][2 * j] = V::add_low_products(acc[p][2 * j], inputs[p], weights);
        acc[p][2 * j + 1] = V::add_high_products(acc[p][2 * j + 1], inputs[p], weights);
      });
    });
  }
};

template <class V>
void conv_single(const ConvTask& task) {
  conv_segments<SingleProducts<V>>(task);
}

// A template, so that only instruction sets with such products have the kernel. By type, segments of at least eight
// products: with fewer it would widen all the time.
template <class V>
constexpr ConvRow kSingleRow = {
    .name = "single",
    .summary = "one byte at a time, 16-bit sums over segments, zeros not skipped",
    .isa = kIsa,
    .is_padded = true,
    .products16 = 1,
    .chosen_products16 = 8,
    .tasks = Tasks::row_unless_pointwise,
    .usual_pixels = 32,
    .lanes32 = V::kLanes32,
    .staging_bytes = Staging::kBytes,
    .pack = pack_single,
    .scratch = single_scratch,
    .run = conv_single<V>,
};

}  // namespace
}  // namespace nybble

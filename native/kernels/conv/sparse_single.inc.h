// Convolution of unsigned activations over lists of their non-zero channels, for vectors that add products of bytes to
// 16-bit sums in one operation (smlal of NEON): nothing is gained there by multiplying two channels at a time, and more
// single channels are zero than pairs. Visits, sums and packing are those of the other lists (sparse.inc.h): the bound
// of the actual weights says where 16-bit sums are widened, after 273 products of 15 * 8 at the earliest.
#pragma once

#include "kernels/conv/next_vectors.inc.h"
#include "kernels/conv/sparse.inc.h"

namespace nybble {
namespace {

template <class Vec>
struct SingleSums {
  using V = Vec;
  using Sums = typename V::I16;
  using Stored = std::int16_t;
  static constexpr int kLanes = V::kLanes16;
  static constexpr int kGroup = 1;
  static constexpr bool kIsWord = true;
  using Entry = std::uint16_t;
  static NYBBLE_INLINE const Entry* entries(const NonZeroLists& lists) { return lists.singles; }
  static NYBBLE_INLINE Sums zero() { return V::set16(0); }
  static NYBBLE_INLINE Sums load(const Stored* p) { return V::load16(p); }
  static NYBBLE_INLINE void store(Stored* p, Sums v) { V::store16(p, v); }
  // The inputs of a list, the number of a channel after each. Loads step on: two instructions an entry less.
  template <int N, int kRow>
  static NYBBLE_INLINE void add_list(Sums (&sums)[N], const Entry* first, const Entry* last, const std::uint8_t* rows) {
    const auto* next = reinterpret_cast<const std::uint8_t*>(first);
    const auto* const end = reinterpret_cast<const std::uint8_t*>(last);
    const auto add_next = [&]() NYBBLE_LAMBDA {
      const auto inputs = V::broadcast_next_byte(next);
      const std::uint8_t* row = rows + std::size_t{*next++} * kRow;
      // In one register, as in sparse_block.
      __asm__("" : "+r"(row));
      add<N>(sums, inputs, row);
    };
    // Two at a time: an instruction an entry less.
    if ((end - next) / 2 % 2 != 0) add_next();
    while (next != end) {
      add_next();
      add_next();
    }
  }
  // The weights of a vector are those of two vectors of sums.
  template <int N>
  static NYBBLE_INLINE void add(Sums (&sums)[N], typename V::Bytes inputs, const std::uint8_t* row) {
    with_next_vectors<V, N / 2>(row, [&](auto j, typename V::Bytes weights) NYBBLE_LAMBDA {
      sums[2 * j] = V::add_low_products(sums[2 * j], inputs, weights);
      sums[2 * j + 1] = V::add_high_products(sums[2 * j + 1], inputs, weights);
    });
  }
  // kLanes32 sums from output i.
  template <int i>
  static NYBBLE_INLINE typename V::I32 lanes(const Sums* sums) {
    return i % kLanes == 0 ? V::widen_low(sums[i / kLanes]) : V::widen_high(sums[i / kLanes]);
  }
};

// Blocks whose sums 20 registers hold: with 24, GCC 12 keeps some of them on the stack.
template <class V>
constexpr std::int32_t kMostSingleUnits = 20 * V::kLanes16 / kChannelAlign;

template <class V>
void conv_sparse_single(const ConvTask& task) {
  const std::int32_t units = task.packed->blocks[task.block].outputs / kChannelAlign;
  for_each_index<kMostSingleUnits<V>>([&](auto n) {
    if (units == n + 1) sparse_units<SingleSums<V>, n + 1>(task);
  });
}

// A template, so that only instruction sets with such products have the kernel.
template <class V>
constexpr ConvRow kSparseSingleRow = {
    .name = "sparse_single",
    .summary = "lists of non-zero channels, 16-bit sums",
    .isa = kIsa,
    .takes_signed = false,
    .is_padded = true,
    .most_input = INT8_MAX,
    .products16 = 1,
    .has_list_products = true,
    .list_group = 1,
    .most_outputs = kMostSingleUnits<V> * kChannelAlign,
    .usual_outputs = V::kUsualOutputs,
    .lanes32 = V::kLanes32,
    .pack = pack_sparse,
    .scratch = sparse_scratch,
    .run = conv_sparse_single<V>,
};

}  // namespace
}  // namespace nybble

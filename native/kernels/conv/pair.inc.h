// Convolution of any inputs of 8 bits by pairs of bytes (vpmaddubsw) with 16-bit sums, groups of one, zeros not
// skipped. Included by one file per instruction set, after its vector type.
//
// Each pair of inputs is staged twice, so that a 32-bit broadcast, a mere load, spreads it over the outputs; signed
// inputs get an offset that makes them the unsigned operand, padding included, and 16-bit sums start at what it adds,
// negated. pack_pair cuts the window into segments whose sums fit 16 bits whatever the inputs are. Where one segment is
// all, the epilogue may have 16-bit lanes; elsewhere segments are added to 32-bit sums.
#pragma once

#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/pair.h"
#include "kernels/conv/words.inc.h"

namespace nybble {
namespace {

// Two inputs by two weights of each output.
template <class Vec>
struct PairProducts {
  using V = Vec;
  static constexpr int kGroup = 2;
  static constexpr int kSums = 8;  // vectors of sums that leave registers for what they are made of
  // Of Staging::kBytes inputs.
  static NYBBLE_INLINE void stage(std::uint8_t* to, Staging::Bytes inputs) {
    Staging::store_pairs_twice(reinterpret_cast<std::uint32_t*>(to), inputs);
  }
  // The group at `place` of P windows, by its weights in `row`.
  template <int P, int N>
  static NYBBLE_INLINE void add(typename V::I16 (&acc)[P][N], const std::uint8_t* const* windows, std::int64_t place,
                                const std::uint8_t* row) {
    typename V::Bytes inputs[P];
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA { inputs[p] = V::broadcast4(windows[p] + place); });
    for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
      auto weights = V::load(row + j * V::kBytes);
      V::hold(weights);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        acc[p][j] = V::add16(acc[p][j], V::multiply_byte_pairs(inputs[p], weights));
        V::hold(acc[p][j]);
      });
    });
  }
};

template <class P>
void stage_window(const ConvTask& task, const PairScratch& places, std::uint8_t* staged) {
  using B = Staging;
  const ConvShape& s = *task.shape;
  const auto offset = B::set8(static_cast<std::int8_t>(task.packed->as<PairPacked>().offset));
  const auto copy = [&](const std::uint8_t* from, std::int64_t elements, std::uint8_t* to) {
    for (std::int64_t i = 0; i < elements; i += B::kBytes)
      P::stage(to + P::kGroup * i, B::add8(B::load(from + i), offset));
  };
  const auto fill = [&](std::uint8_t* to, const std::uint8_t* end) {
    for (; to < end; to += B::kBytes) B::store(to, offset);
  };
  const std::uint8_t* input = static_cast<const std::uint8_t*>(task.input);
  if (s.pointwise()) {
    copy(input + task.first_pixel * s.input.stride, std::int64_t{task.pixels} * s.input.stride, staged);
    return;
  }
  const std::int64_t within = task.first_pixel % s.output.pixels();
  const std::int64_t top = within / s.output.width * s.stride_h - s.pad_top;
  const std::int64_t left = within % s.output.width * s.stride_w - s.pad_left;
  const std::int64_t columns =
      std::int64_t{task.pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
  // Columns [from, to) lie in the image.
  std::int64_t from = left < 0 ? -left : 0, to = s.input.width - left;
  from = from < columns ? from : columns;
  to = to < columns ? (to > from ? to : from) : columns;
  input += task.first_pixel / s.output.pixels() * s.input.image_elements();
  for (std::int32_t r = 0; r < s.kernel_h; ++r, staged += places.row_bytes) {
    const std::int64_t y = top + std::int64_t{r} * s.dilation_h;
    const bool is_inside = y >= 0 && y < s.input.height;
    const std::int64_t begin = is_inside ? from : columns, end = is_inside ? to : columns;
    fill(staged, staged + begin * places.pixel_bytes);
    if (begin < end)
      copy(input + (y * s.input.width + left + begin) * s.input.stride, (end - begin) * s.input.stride,
           staged + begin * places.pixel_bytes);
    fill(staged + end * places.pixel_bytes, staged + columns * places.pixel_bytes);
  }
}

// P pixels of N vectors of outputs: 16-bit sums in `acc` where the tile has one segment, else 32-bit ones in `sums`.
template <class Products, class V, int P, int N>
NYBBLE_INLINE void pair_sums(const std::uint8_t* all_weights, const PairPacked& packed, const PairTile& tile,
                             const std::uint8_t* const* windows, typename V::I16 (&acc)[P][N], std::int32_t* sums) {
  constexpr int kOutputs = N * V::kLanes16;
  const std::uint8_t* row = all_weights + tile.offset;
  const std::int16_t* start = packed.constants + tile.constants;
  const PairRun* run = packed.runs + tile.first_run;
  const auto begin = [&]() NYBBLE_LAMBDA {
    for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA { acc[p][j] = V::load16(start + j * V::kLanes16); });
    });
  };
  begin();
  bool is_first = true;
  for (const PairRun* const stop = run + tile.runs; run != stop; ++run) {
    constexpr int kStep = Products::kGroup * Products::kGroup;  // a pair lies there twice
    for (std::int64_t place = run->place, end = place + run->bytes; place != end; place += kStep) {
      Products::template add<P, N>(acc, windows, place, row);
      row += Products::kGroup * kOutputs;
    }
    if (!run->ends || tile.is_one_segment) continue;
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
      for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
        std::int32_t* low = sums + p * kOutputs + j * V::kLanes16;
        std::int32_t* high = low + V::kLanes32;
        auto a = V::widen_low(acc[p][j]), b = V::widen_high(acc[p][j]);
        if (!is_first) {
          a = V::add32(a, V::load32(low));
          b = V::add32(b, V::load32(high));
        }
        V::store32(low, a);
        V::store32(high, b);
      });
    });
    is_first = false;
    start += kOutputs;
    begin();
  }
}

// The outputs of a tile, kUnits times kChannelAlign from `first`.
template <class Products, int kUnits>
void pair_tile(const ConvTask& task, const PairScratch& places, const PairTile& tile, std::int32_t first,
               const std::uint8_t* staged, std::int32_t* sums) {
  using V = typename Products::V;
  constexpr int kOutputs = kUnits * kChannelAlign, N = kOutputs / V::kLanes16;
  constexpr int P = Products::kSums / N;
  static_assert(P * kOutputs <= kPairSums);
  const ConvShape& s = *task.shape;
  const Epilogue& e = *task.epilogue;
  const std::int64_t step = s.stride_w * places.pixel_bytes;
  for (std::int32_t p = 0; p < task.pixels; p += P) {
    const std::int32_t count = task.pixels - p < P ? task.pixels - p : P;
    const std::uint8_t* windows[P];
    const std::int64_t pixel = task.first_pixel + p;
    // A ragged end repeats its first pixel and drops the result.
    for (std::int32_t i = 0; i < P; ++i) windows[i] = staged + (p + (i < count ? i : 0)) * step;
    for (std::int32_t i = 0; i < count; ++i)
      prefetch_finish(e, s.output, pixel + i, first, kOutputs, task.shortcut, task.output);
    typename V::I16 acc[P][N];
    pair_sums<Products, V, P, N>(task.packed->weights, task.packed->as<PairPacked>(), tile, windows, acc, sums);
    const bool is_word = tile.is_one_segment && e.words != nullptr;
    for_each_index<P>([&](auto i) NYBBLE_LAMBDA {
      if (i >= count) return;
      if (is_word) {
        finish_pixel16<V, kUnits>(e, s.output, pixel + i, first, task.shortcut, task.output, acc[i]);
        return;
      }
      std::int32_t* stored = sums + i * kOutputs;
      if (tile.is_one_segment)
        for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
          V::store32(stored + j * V::kLanes16, V::widen_low(acc[i][j]));
          V::store32(stored + j * V::kLanes16 + V::kLanes32, V::widen_high(acc[i][j]));
        });
      finish_pixel<V>(e, s.output, pixel + i, first, kOutputs, task.shortcut, task.output, stored);
    });
  }
}

// The task's pixels lie in one output row, or the convolution is pointwise.
template <class Products>
void conv_segments(const ConvTask& task) {
  const PairPacked& packed = task.packed->as<PairPacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  const PairScratch places(*task.shape, Products::kGroup, packed.tile_pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  std::uint8_t* staged = task.scratch + places.staged;
  stage_window<Products>(task, places, staged);
  const PairTile* tile = packed.tiles + block.offset;
  for (std::int32_t k = 0; k < block.outputs; k += kPairOutputs, ++tile) {
    if (block.outputs - k >= kPairOutputs)
      pair_tile<Products, kPairOutputs / kChannelAlign>(task, places, *tile, block.first + k, staged, sums);
    else
      pair_tile<Products, 1>(task, places, *tile, block.first + k, staged, sums);
  }
}

void conv_pair(const ConvTask& task) { conv_segments<PairProducts<Vector>>(task); }
// By type, segments of at least four pairs: with fewer it would widen all the time.
constexpr ConvRow kPairRow = {
    .name = "pair",
    .summary = "two bytes at a time, 16-bit sums over segments, zeros not skipped",
    .isa = kIsa,
    .is_padded = true,
    .products16 = 2,
    .has_signed_pairs = Vector::kHasSignedPairs,
    .chosen_products16 = 8,
    .tasks = Tasks::row_unless_pointwise,
    .usual_pixels = 32,
    .lanes32 = Vector::kLanes32,
    .staging_bytes = Staging::kBytes,
    .pack = pack_pair,
    .scratch = pair_scratch,
    .run = conv_pair,
};

}  // namespace
}  // namespace nybble

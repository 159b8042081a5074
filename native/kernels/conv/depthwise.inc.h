// Depthwise convolution by dot products. Included by one file per instruction set, after its vector types.
//
// The window of kChannelAlign channels is staged such that the four bytes of a 32-bit lane are the same channel in four
// rows of the window: a kernel of three rows has one dot product for each of its columns, one of five rows two. One row
// that is left over is staged as four neighbouring taps. Strides, dilation and padding are places in the staged rows.
#pragma once

#include <type_traits>

#include "kernels/conv/depthwise.h"
#include "kernels/conv/grouped.inc.h"
#include "kernels/conv/tile.inc.h"

namespace nybble {
namespace {

// The four sources of a staged row.
struct QuadRows {
  const std::uint8_t* rows[4] = {kBlankPixel, kBlankPixel, kBlankPixel, kBlankPixel};
  Inside inside[4];
};

// One column, wherever it lies.
template <bool kHasOffset>
NYBBLE_INLINE void stage_quad(const std::uint8_t* const (&pixels)[4], Staging::Bytes add, std::uint8_t* out) {
  using B = Staging;
  for_each_index<kChannelAlign / B::kBytes>([&](auto j) NYBBLE_LAMBDA {
    typename B::Bytes bytes[4];
    for_each_index<4>([&](auto n) NYBBLE_LAMBDA {
      bytes[n] = B::load(pixels[n] + j * B::kBytes);
      if constexpr (kHasOffset) bytes[n] = B::add8(bytes[n], add);
    });
    B::store_quads(out + j * 4 * B::kBytes, bytes[0], bytes[1], bytes[2], bytes[3]);
  });
}

template <bool kHasOffset>
void stage_quads(const QuadRows& from, std::int64_t columns, std::int64_t stride, std::int32_t offset,
                 std::uint8_t* out) {
  const auto add = Staging::set8(static_cast<std::int8_t>(offset));
  const std::uint8_t* pixels[4];
  // Columns that all four have, or that are blank as a whole.
  std::int64_t first = 0, last = columns, steps[4];
  for (int n = 0; n < 4; ++n) {
    const Inside& inside = from.inside[n];
    steps[n] = inside.count > 0 ? stride : 0;
    if (inside.count <= 0) continue;
    first = inside.from > first ? inside.from : first;
    last = inside.from + inside.count < last ? inside.from + inside.count : last;
  }
  const auto stage_each = [&](std::int64_t x, std::int64_t end) {
    for (; x < end; ++x, out += kDepthwiseBytes) {
      for (int n = 0; n < 4; ++n) pixels[n] = from.inside[n].has(x) ? from.rows[n] + x * stride : kBlankPixel;
      stage_quad<kHasOffset>(pixels, add, out);
    }
  };
  first = first < columns ? first : columns;
  stage_each(0, first);
  for_each_index<4>([&](auto n) NYBBLE_LAMBDA { pixels[n] = from.rows[n] + first * steps[n]; });
  for (std::int64_t x = first; x < last; ++x, out += kDepthwiseBytes) {
    stage_quad<kHasOffset>(pixels, add, out);
    for_each_index<4>([&](auto n) NYBBLE_LAMBDA { pixels[n] += steps[n]; });
  }
  stage_each(first < last ? last : first, columns);
}

// Stages the window of a unit: the pixels of an output row that a task covers, from `first_pixel`, or where `is_pair`
// of the one below as well.
inline void stage_depthwise_unit(const ConvTask& task, std::int64_t first_pixel, bool is_pair,
                                 const DepthwiseScratch& places, std::int64_t channel, std::uint8_t* staged) {
  const ConvShape& s = *task.shape;
  const std::int64_t within = first_pixel % s.output.pixels(), stride = s.input.stride;
  const std::int64_t top = within / s.output.width * s.stride_h - s.pad_top;
  const std::int64_t left = within % s.output.width * s.stride_w - s.pad_left;
  const std::uint8_t* image = static_cast<const std::uint8_t*>(task.input) +
                              first_pixel / s.output.pixels() * s.input.image_elements() + channel;
  const std::int32_t window_rows = s.kernel_h + (is_pair ? 1 : 0);
  const std::int32_t offset = task.packed->as<DepthwisePacked>().offset;
  const std::int64_t columns =
      std::int64_t{task.pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
  for (std::int32_t row = 0; row < places.rows; ++row, staged += places.row_bytes) {
    QuadRows from;
    for (std::int32_t n = 0; n < 4; ++n) {
      const bool is_beside = !is_pair && places.is_beside(row);
      const std::int32_t r = 4 * row + (is_beside ? 0 : n);
      const std::int64_t y = top + std::int64_t{r} * s.dilation_h;
      const std::int64_t x = left + (is_beside ? std::int64_t{n} * s.dilation_w : 0);
      if (r >= window_rows || y < 0 || y >= s.input.height || x >= s.input.width || x + columns <= 0) continue;
      from.rows[n] = image + (y * s.input.width + x) * stride;
      from.inside[n].from = x < 0 ? -x : 0;
      from.inside[n].count = s.input.width - x - from.inside[n].from;
    }
    const auto stage = offset == 0 ? stage_quads<false> : stage_quads<true>;
    stage(from, columns, stride, offset, staged);
  }
}

// Sums of P pixels of a unit, from `start`; E entries, or where E is 0 as many as there are.
template <class V, int P, int E>
NYBBLE_INLINE void depthwise_sums(const DepthwisePacked& packed, const std::uint8_t* window, std::int64_t step,
                                  const std::uint8_t* weights,
                                  const typename V::I32 (&start)[kDepthwiseBytes / V::kBytes],
                                  typename V::I32 (&acc)[P][kDepthwiseBytes / V::kBytes]) {
  constexpr int N = kDepthwiseBytes / V::kBytes;
  for_each_index<P * N>([&](auto i) NYBBLE_LAMBDA { acc[i / N][i % N] = start[i % N]; });
  const auto add = [&](std::int32_t entry) NYBBLE_LAMBDA {
    const std::uint8_t* at = window + packed.places[entry];
    for_each_index<N>([&](auto j) NYBBLE_LAMBDA {
      const auto w = V::load(weights + std::int64_t{entry} * kDepthwiseBytes + j * V::kBytes);
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
        acc[p][j] = V::add_quads(acc[p][j], V::load(at + p * step + j * V::kBytes), w);
      });
    });
  };
  if constexpr (E > 0) {
    for_each_index<E>([&](auto e) NYBBLE_LAMBDA { add(e); });
  } else {
    for (std::int32_t e = 0; e < packed.entries; ++e) add(e);
  }
}

// What sums of a unit start as: the correction and `bias`.
template <class V>
NYBBLE_INLINE void start_depthwise(const DepthwisePacked& packed, std::int32_t first, const std::int32_t* bias,
                                   typename V::I32 (&start)[kDepthwiseBytes / V::kBytes]) {
  for_each_index<kDepthwiseBytes / V::kBytes>([&](auto j) NYBBLE_LAMBDA {
    const std::int32_t i = j * V::kLanes32;
    start[j] = V::add32(V::load32(packed.correction + first + i), V::load32(bias + i));
  });
}

// All pixels of a row of a task, from `pixel`, finished in registers.
template <class V, class HowTo, int E>
__attribute__((noinline)) void depthwise_finished(const ConvTask& task, const std::uint8_t* staged, std::int32_t first,
                                                  const std::int32_t* bias, std::int64_t pixel) {
  constexpr std::int32_t P = V::kDepthwisePixels;
  const DepthwisePacked& packed = task.packed->as<DepthwisePacked>();
  const std::uint8_t* weights = task.packed->weights + std::int64_t{first} * packed.entries * 4;
  const std::int64_t step = std::int64_t{task.shape->stride_w} * kDepthwiseBytes;
  typename V::I32 start[2];
  start_depthwise<V>(packed, first, bias, start);
  std::int32_t p = 0;
  for (; p + P <= task.pixels; p += P) {
    typename V::I32 acc[P][2];
    depthwise_sums<V, P, E>(packed, staged + p * step, step, weights, start, acc);
    finish_in_registers<V, P>(HowTo{}, task, pixel + p, first, acc);
  }
  for (; p < task.pixels; ++p) {
    typename V::I32 acc[1][2];
    depthwise_sums<V, 1, E>(packed, staged + p * step, step, weights, start, acc);
    finish_in_registers<V, 1>(HowTo{}, task, pixel + p, first, acc);
  }
}

// The same of both rows of a task.
template <class V, class HowTo, int E>
__attribute__((noinline)) void depthwise_pair(const ConvTask& task, const std::uint8_t* staged, std::int32_t first,
                                              const std::int32_t* bias, std::int64_t pixel) {
  constexpr std::int32_t kMost = V::kDepthwisePixels;
  const DepthwisePacked& packed = task.packed->as<DepthwisePacked>();
  const std::uint8_t* weights =
      task.packed->weights + packed.pair_weights + std::int64_t{first} * packed.pair_entries * 8;
  const std::int64_t step = std::int64_t{task.shape->stride_w} * kDepthwiseBytes;
  typename V::I32 start[2];
  start_depthwise<V>(packed, first, bias, start);
  const auto some = [&](auto count, std::int32_t p) NYBBLE_LAMBDA {
    typename V::I32 above[count][2], below[count][2];
    for_each_index<2 * count>([&](auto i) NYBBLE_LAMBDA { above[i / 2][i % 2] = below[i / 2][i % 2] = start[i % 2]; });
    for_each_index<E>([&](auto entry) NYBBLE_LAMBDA {
      const std::uint8_t* at = staged + p * step + packed.pair_places[entry];
      const std::uint8_t* row = weights + std::int64_t{entry} * 2 * kDepthwiseBytes;
      for_each_index<2>([&](auto j) NYBBLE_LAMBDA {
        const auto w0 = V::load(row + j * V::kBytes), w1 = V::load(row + kDepthwiseBytes + j * V::kBytes);
        for_each_index<count>([&](auto i) NYBBLE_LAMBDA {
          const auto inputs = V::load(at + i * step + j * V::kBytes);
          above[i][j] = V::add_quads(above[i][j], inputs, w0);
          below[i][j] = V::add_quads(below[i][j], inputs, w1);
        });
      });
    });
    finish_in_registers<V, count>(HowTo{}, task, pixel + p, first, above);
    finish_in_registers<V, count>(HowTo{}, task, pixel + p + task.shape->output.width, first, below);
  };
  std::int32_t p = 0;
  for (; p + kMost <= task.pixels; p += kMost) some(std::integral_constant<int, kMost>{}, p);
  for (; p < task.pixels; ++p) some(std::integral_constant<int, 1>{}, p);
}

// Finishes a unit so, one row or a pair.
template <class V>
NYBBLE_INLINE void finish_depthwise(const ConvTask& task, const TileFinish<V>& finish, bool is_pair,
                                    const std::uint8_t* staged, std::int32_t first, std::int64_t pixel) {
  const auto run = [&](auto how_to) NYBBLE_LAMBDA {
    using HowTo = decltype(how_to);
    const DepthwisePacked& packed = task.packed->as<DepthwisePacked>();
    const bool is_small = (is_pair ? packed.pair_entries : packed.entries) == 3;
    const auto function = is_pair ? (is_small ? depthwise_pair<V, HowTo, 3> : depthwise_pair<V, HowTo, 10>)
                                  : (is_small ? depthwise_finished<V, HowTo, 3> : depthwise_finished<V, HowTo, 7>);
    function(task, staged, first, finish.bias, pixel);
  };
  if (!finish.is_word)
    run(ShortcutIs<Shortcut::none>{});
  else if (task.epilogue->factor16_low != nullptr)
    run(WordsIs<Words::wide>{});
  else
    run(WordsIs<Words::none>{});
}

// Whether finish_depthwise does the unit: of usual kernels, and of results that suit most networks.
template <class V>
NYBBLE_INLINE bool is_finished_depthwise(const ConvTask& task, const TileFinish<V>& finish) {
  const Epilogue& e = *task.epilogue;
  const std::int32_t entries = task.packed->as<DepthwisePacked>().entries;
  return !e.shortcut && (e.low >= 0 || e.relu) && (entries == 3 || entries == 7) &&
         (finish.is_word || finish.fits_lanes());
}

// Sums of all pixels of a task, with `bias`.
template <class V, int E>
__attribute__((noinline)) void depthwise_pixels(const ConvTask& task, const std::uint8_t* staged, std::int32_t first,
                                                const std::int32_t* bias, std::int32_t* sums) {
  constexpr int N = kDepthwiseBytes / V::kBytes;
  constexpr std::int32_t P = V::kDepthwisePixels;
  const DepthwisePacked& packed = task.packed->as<DepthwisePacked>();
  const std::uint8_t* weights = task.packed->weights + std::int64_t{first} * packed.entries * 4;
  const std::int64_t step = std::int64_t{task.shape->stride_w} * kDepthwiseBytes;
  typename V::I32 start[N];
  start_depthwise<V>(packed, first, bias, start);
  const auto some = [&](auto count, std::int32_t p) NYBBLE_LAMBDA {
    typename V::I32 acc[count][N];
    depthwise_sums<V, count, E>(packed, staged + p * step, step, weights, start, acc);
    for_each_index<count * N>([&](auto i) NYBBLE_LAMBDA {
      V::store32(sums + (p + i / N) * kChannelAlign + i % N * V::kLanes32, acc[i / N][i % N]);
    });
  };
  std::int32_t p = 0;
  for (; p + P <= task.pixels; p += P) some(std::integral_constant<int, P>{}, p);
  for (; p < task.pixels; ++p) some(std::integral_constant<int, 1>{}, p);
}

template <class V>
NYBBLE_INLINE void depthwise_unit(const ConvTask& task, const std::uint8_t* staged, std::int32_t first,
                                  const std::int32_t* bias, std::int32_t* sums) {
  switch (task.packed->as<DepthwisePacked>().entries) {
    case 3:  // 3x3
      return depthwise_pixels<V, 3>(task, staged, first, bias, sums);
    case 7:  // 5x5
      return depthwise_pixels<V, 7>(task, staged, first, bias, sums);
    default:
      return depthwise_pixels<V, 0>(task, staged, first, bias, sums);
  }
}

// A unit of one row of a task.
template <class V>
void conv_depthwise_row(const ConvTask& task, const DepthwiseScratch& places, std::int32_t first, std::int64_t pixel) {
  const Epilogue& e = *task.epilogue;
  std::uint8_t* staged = task.scratch + places.staged;
  stage_depthwise_unit(task, pixel, false, places, first, staged);
  const TileFinish<V> finish_unit(e, first);
  if constexpr (kSumsAreGroups<V>)
    if (is_finished_depthwise<V>(task, finish_unit)) {
      finish_depthwise<V>(task, finish_unit, false, staged, first, pixel);
      return;
    }
  auto* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  depthwise_unit<V>(task, staged, first, finish_unit.bias, sums);
  auto finish = finish_tile<V>;
  if constexpr (kFinishesWords<V>)
    if (finish_unit.is_word) finish = finish_saturated<V>;
  finish(e, task.shape->output, pixel, task.pixels, first, task.shortcut, task.output, sums);
}

// The task's pixels lie in one output row or two.
template <class V>
void conv_depthwise(const ConvTask& task) {
  const DepthwisePacked& packed = task.packed->as<DepthwisePacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  const DepthwiseScratch places(*task.shape, packed.tile_pixels);
  for (std::int32_t first = block.first; first < block.first + block.outputs; first += kChannelAlign) {
    if constexpr (kSumsAreGroups<V>) {
      const TileFinish<V> finish(*task.epilogue, first);
      const bool is_pair = task.rows == 2 && (packed.pair_entries == 3 || packed.pair_entries == 10);
      if (is_pair && is_finished_depthwise<V>(task, finish)) {
        std::uint8_t* staged = task.scratch + places.staged;
        stage_depthwise_unit(task, task.first_pixel, true, places, first, staged);
        finish_depthwise<V>(task, finish, true, staged, first, task.first_pixel);
        continue;
      }
    }
    for (std::int32_t row = 0; row < task.rows; ++row)
      conv_depthwise_row<V>(task, places, first, task.first_pixel + std::int64_t{row} * task.shape->output.width);
  }
}

template <class V>
constexpr ConvRow kDepthwiseRow = {
    .name = "depthwise",
    .summary = "depthwise, four taps at a time, 32-bit sums",
    .isa = kIsa,
    .takes_groups = true,
    .is_padded = true,
    .is_depthwise = true,
    .has_dot_products = true,
    .has_signed_quads = V::kHasSignedQuads,
    .is_for_groups = true,
    .tasks = Tasks::row_pair,
    .lanes32 = V::kLanes32,
    .finishes_words = kFinishesWords<V>,
    .pack = pack_depthwise,
    .scratch = depthwise_scratch,
    .run = conv_depthwise<V>,
};

}  // namespace
}  // namespace nybble

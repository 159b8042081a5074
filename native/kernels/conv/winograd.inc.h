// Winograd convolution F(2x2, 3x3), exact (Lavin and Gray 2016, "Fast algorithms for convolutional neural
// networks", section 4.1): a square of 2x2 outputs takes 16 products per channel in place of 36. Included by one
// file per instruction set, after the vector type.
//
//   inputs of 4x4 pixels d -> B'dB, 16 positions, each plus 30: in 0..90
//   weights of 3x3 g -> (2G)g(2G)', in -72..72 (pack_winograd.cpp)
//   products of both, summed over channels, for every position: M
//   A'MA, less what the 30 added: four times the outputs
//
// A pair of products is at most 90 * 144, so vpmaddubsw never saturates. All sums are taken modulo 2^16: the
// transforms are linear with whole coefficients, so only what is left at the end must fit 16 bits. pack_winograd cuts
// the channels into segments that keep four times every output of a segment within them.
#pragma once

#include <type_traits>

#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/next_vectors.inc.h"
#include "kernels/conv/winograd.h"
#include "kernels/conv/words.inc.h"

namespace nybble {
namespace {

constexpr int kPositions = 16;

// Pairs of channels lie there twice, so that a mere load spreads them. Vectors that add products of single bytes to
// 16-bit sums in one operation multiply single channels.
constexpr int kWinogradGroup = Vector::kHasSingleProducts ? 1 : 2;
using WinogradInput = std::conditional_t<kWinogradGroup == 1, std::uint8_t, std::uint32_t>;

// A'm for one column of positions.
template <class V>
NYBBLE_INLINE void winograd_column(const typename V::I16 (&m)[4], typename V::I16& first, typename V::I16& second) {
  first = V::add16(V::add16(m[0], m[1]), m[2]);
  second = V::sub16(V::sub16(m[1], m[2]), m[3]);
}

// Products of T squares at one position and the N vectors of outputs of a block, over the groups of a segment.
template <class V, int T, int N>
NYBBLE_INLINE void winograd_products(const WinogradInput* inputs, std::int64_t stride, const std::uint8_t* weights,
                                     std::int32_t groups, std::int16_t* products) {
  constexpr int kRow = N * V::kLanes16 * kWinogradGroup;  // bytes of weights of a group
  typename V::I16 sums[T][N];
  NYBBLE_UNROLL
  for (int i = 0; i < T * N; ++i) sums[i / N][i % N] = V::set16(0);
  const std::uint8_t* const end = weights + std::int64_t{groups} * kRow;
  if constexpr (kWinogradGroup == 1) {
    const std::uint8_t* next[T];
    for_each_index<T>([&](auto t) NYBBLE_LAMBDA { next[t] = inputs + t * stride; });
    while (weights != end) {
      for_each_index<kWinogradStep>([&](auto) NYBBLE_LAMBDA {
        typename V::Bytes group[T];
        for_each_index<T>([&](auto t) NYBBLE_LAMBDA { group[t] = V::broadcast_next_byte(next[t]); });
        with_next_vectors<V, N / 2>(weights, [&](auto n, typename V::Bytes row) NYBBLE_LAMBDA {
          for_each_index<T>([&](auto t) NYBBLE_LAMBDA {
            sums[t][2 * n] = V::add_low_products(sums[t][2 * n], group[t], row);
            sums[t][2 * n + 1] = V::add_high_products(sums[t][2 * n + 1], group[t], row);
          });
        });
      });
    }
  } else {
    for (; weights != end; ++inputs, weights += kRow) {
      typename V::Bytes group[T];
      NYBBLE_UNROLL
      for (int t = 0; t < T; ++t) group[t] = V::broadcast4(inputs + t * stride);
      NYBBLE_UNROLL
      for (int n = 0; n < N; ++n) {
        auto row = V::load(weights + n * V::kBytes);
        if constexpr (T == 2) V::hold(row);
        NYBBLE_UNROLL
        for (int t = 0; t < T; ++t) sums[t][n] = V::add16(sums[t][n], V::multiply_byte_pairs(group[t], row));
      }
    }
  }
  NYBBLE_UNROLL
  for (int i = 0; i < T * N; ++i) V::store16(products + i * V::kLanes16, sums[i / N][i % N]);
}

NYBBLE_INLINE void winograd_store(std::uint8_t* out, Staging::Bytes v) { Staging::store(out, v); }
NYBBLE_INLINE void winograd_store(std::uint32_t* out, Staging::Bytes v) { Staging::store_pairs_twice(out, v); }

// From a row of B'd to its four positions, each plus 30: B'dB of 30 * a_i * a_j for a = (2, 0, 1, -1), added to pixel
// (i, j), is 30 in every position. Here the rows have theirs already; the columns' follows.
NYBBLE_INLINE void winograd_input_row(const Staging::Bytes (&d)[4], std::int64_t apart, WinogradInput* out) {
  using B = Staging;
  const auto first = B::add8(d[0], B::set8(60)), third = B::add8(d[2], B::set8(30)), last = B::sub8(d[3], B::set8(30));
  winograd_store(out, B::sub8(first, third));
  winograd_store(out + apart, B::add8(d[1], third));
  winograd_store(out + 2 * apart, B::sub8(third, d[1]));
  winograd_store(out + 3 * apart, B::sub8(d[1], last));
}

// B'dB of Staging::kBytes channels of the 4x4 pixels.
NYBBLE_INLINE void winograd_input(const std::uint8_t* const* pixels, std::int32_t channel, std::int64_t apart,
                                  WinogradInput* out) {
  using B = Staging;
  B::Bytes d[4][4];
  NYBBLE_UNROLL
  for (int i = 0; i < 16; ++i) d[i / 4][i % 4] = B::load(pixels[i] + channel);
  B::Bytes row[4];
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[0][c], d[2][c]);
  winograd_input_row(row, apart, out);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::add8(d[1][c], d[2][c]);
  winograd_input_row(row, apart, out + 4 * apart);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[2][c], d[1][c]);
  winograd_input_row(row, apart, out + 8 * apart);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[1][c], d[3][c]);
  winograd_input_row(row, apart, out + 12 * apart);
}

// The 4x4 inputs of a square; those outside the image are `zeros`.
NYBBLE_INLINE void winograd_pixels(const ConvTask& task, const Squares& squares, std::int64_t index,
                                   const std::uint8_t* zeros, const std::uint8_t* (&pixels)[kPositions]) {
  const Layout& input = task.shape->input;
  const Square square(squares, index);
  const std::uint8_t* image = static_cast<const std::uint8_t*>(task.input) + square.image * input.image_elements();
  for (std::int32_t r = 0; r < 4; ++r)
    for (std::int32_t c = 0; c < 4; ++c) {
      const std::int32_t y = square.y - task.shape->pad_top + r, x = square.x - task.shape->pad_left + c;
      const bool inside = y >= 0 && y < input.height && x >= 0 && x < input.width;
      pixels[4 * r + c] = inside ? image + (std::int64_t{y} * input.width + x) * input.stride : zeros;
    }
}

void winograd_inputs(const ConvTask& task, const Squares& squares, const std::uint8_t* zeros, std::int64_t apart,
                     WinogradInput* out) {
  const Layout& input = task.shape->input;
  const std::int64_t groups = input.stride / kWinogradGroup;
  for (std::int32_t t = 0; t < task.pixels; ++t) {
    const std::uint8_t* pixels[kPositions];
    winograd_pixels(task, squares, task.first_pixel + t, zeros, pixels);
    for (std::int32_t channel = 0; channel < input.stride; channel += Staging::kBytes)
      winograd_input(pixels, channel, apart, out + t * groups + channel / kWinogradGroup);
  }
}

// Products of all squares of a task and a block of outputs over one segment, [position][square][output].
// T squares at a time: what the registers hold.
template <class V, int T, int N>
__attribute__((noinline)) void winograd_segment(const WinogradScratch& scratch, const WinogradInput* inputs,
                                                std::int64_t stride, std::int32_t squares, const std::uint8_t* weights,
                                                std::int32_t groups, std::int16_t* products) {
  constexpr std::int32_t kOutputs = N * V::kLanes16;
  const std::int64_t position_bytes = std::int64_t{groups} * kWinogradGroup * kOutputs;
  const std::int64_t inputs_apart = scratch.inputs_apart / static_cast<std::int64_t>(sizeof(WinogradInput));
  for (int position = 0; position < kPositions; ++position) {
    // The next position's weights come from L2 or beyond: prefetch a few cache lines per iteration.
    const std::uint8_t* ahead = weights + position_bytes;
    const std::int64_t ahead_each = (position_bytes * T / squares + 63) / 64 * 64;
    std::int32_t t = 0;
    for (; t + T <= squares; t += T) {
      for (const std::uint8_t* until = ahead + ahead_each; ahead != until; ahead += 64) __builtin_prefetch(ahead, 0, 2);
      winograd_products<V, T, N>(inputs + t * stride, stride, weights, groups, products + t * kOutputs);
    }
    if constexpr (T > 1)
      for (; t < squares; ++t)
        winograd_products<V, 1, N>(inputs + t * stride, stride, weights, groups, products + t * kOutputs);
    inputs += inputs_apart;
    weights += position_bytes;
    products += scratch.products_apart;
  }
}

// Squares whose sums of `units` * 32 outputs stay in registers, with what they are made of.
constexpr int winograd_together(int units) { return Vector::kWinogradTogether[units - 1]; }

template <class V, int Units>
NYBBLE_INLINE void winograd_units(const ConvTask& task, const WinogradScratch& scratch, const WinogradSegment& segment,
                                  const WinogradInput* inputs, std::int16_t* products) {
  winograd_segment<V, winograd_together(Units), Units * kChannelAlign / V::kLanes16>(
      scratch, inputs + segment.first_group, task.shape->input.stride / kWinogradGroup, task.pixels,
      task.packed->weights + segment.offset, segment.groups, products);
}

// Adds a segment's part to the outputs of one square; `constants` and `sums` are [output pixel][output].
template <class V, class Stored>
NYBBLE_INLINE void winograd_outputs(const std::int16_t* products, std::int64_t apart, const std::int16_t* constants,
                                    std::int32_t outputs, bool fresh, Stored* sums) {
  using I16 = typename V::I16;
  for (std::int32_t k = 0; k < outputs; k += V::kLanes16) {
    I16 z[2][4];
    for (int column = 0; column < 4; ++column) {
      I16 m[4];
      for (int row = 0; row < 4; ++row) m[row] = V::load16(products + (4 * row + column) * apart + k);
      winograd_column<V>(m, z[0][column], z[1][column]);
    }
    for (int row = 0; row < 2; ++row) {
      I16 y[2];
      winograd_column<V>(z[row], y[0], y[1]);
      for (int column = 0; column < 2; ++column) {
        const std::int32_t place = (2 * row + column) * outputs + k;
        y[column] = V::template shift_right16<2>(V::add16(y[column], V::load16(constants + place)));
        Stored* target = sums + place;
        if constexpr (sizeof(Stored) == 2) {
          V::store16(target, fresh ? y[column] : V::add16(y[column], V::load16(target)));
        } else {
          const auto low = V::widen_low(y[column]), high = V::widen_high(y[column]);
          V::store32(target, fresh ? low : V::add32(low, V::load32(target)));
          target += V::kLanes32;
          V::store32(target, fresh ? high : V::add32(high, V::load32(target)));
        }
      }
    }
  }
}

template <class V>
NYBBLE_INLINE void winograd_finish_pixel(const ConvTask& task, const OutputBlock& block, std::int64_t pixel,
                                         const std::int32_t* sums) {
  finish_pixel<V>(*task.epilogue, task.shape->output, pixel, block.first, block.outputs, task.shortcut, task.output,
                  sums);
}

template <class V>
NYBBLE_INLINE void winograd_finish_pixel(const ConvTask& task, const OutputBlock& block, std::int64_t pixel,
                                         const std::int16_t* sums) {
  constexpr int kVectors = kChannelAlign / V::kLanes16;
  for (std::int32_t k = 0; k < block.outputs; k += kChannelAlign) {
    typename V::I16 group[kVectors];
    for (int j = 0; j < kVectors; ++j) group[j] = V::load16(sums + k + j * V::kLanes16);
    finish_pixel16<V, 1>(*task.epilogue, task.shape->output, pixel, block.first + k, task.shortcut, task.output, group);
  }
}

// From the products of segment `n` of block `b` to its outputs; after the last segment those are finished.
template <class V, class Stored>
void winograd_finish(const ConvTask& task, const Squares& squares, std::int32_t b, std::int32_t n, std::int64_t apart,
                     const std::int16_t* products, Stored* all_sums) {
  const ConvShape& s = *task.shape;
  const WinogradPacked& packed = task.packed->as<WinogradPacked>();
  const OutputBlock& block = task.packed->blocks[b];
  const std::int32_t segments = packed.blocks[b].segments;
  const std::int16_t* constants = packed.constants + packed.segments[packed.blocks[b].first_segment + n].constants;
  for (std::int32_t t = 0; t < task.pixels; ++t) {
    // A single segment's sums are used at once.
    Stored* sums = all_sums + (segments > 1 ? std::int64_t{t} * 4 * block.outputs : 0);
    winograd_outputs<V>(products + t * block.outputs, apart, constants, block.outputs, n == 0, sums);
    if (n + 1 < segments) continue;
    const Square square(squares, task.first_pixel + t);
    for (std::int32_t i = 0; i < 4; ++i, sums += block.outputs) {
      const std::int32_t y = square.y + i / 2, x = square.x + i % 2;
      if (y >= s.output.height || x >= s.output.width) continue;
      const std::int64_t pixel = (square.image * s.output.height + y) * s.output.width + x;
      winograd_finish_pixel<V>(task, block, pixel, sums);
    }
  }
}

void conv_winograd(const ConvTask& task) {
  using V = Vector;
  const ConvShape& s = *task.shape;
  const PackedConv& common = *task.packed;
  const WinogradPacked& packed = common.as<WinogradPacked>();
  const WinogradScratch scratch(s, kWinogradGroup, common.most_outputs, task.pixels);
  std::uint8_t* zeros = task.scratch;
  WinogradInput* inputs = reinterpret_cast<WinogradInput*>(task.scratch + scratch.inputs);
  std::int16_t* products = reinterpret_cast<std::int16_t*>(task.scratch + scratch.products);
  std::uint8_t* sums = task.scratch + scratch.sums;
  for (std::int32_t i = 0; i < s.input.stride; ++i) zeros[i] = 0;
  const Squares squares(s.output);
  winograd_inputs(task, squares, zeros, scratch.inputs_apart / static_cast<std::int64_t>(sizeof(WinogradInput)),
                  inputs);
  for (std::int32_t b = 0; b < common.block_count; ++b) {
    const WinogradBlock& cut = packed.blocks[b];
    for (std::int32_t n = 0; n < cut.segments; ++n) {
      const WinogradSegment& segment = packed.segments[cut.first_segment + n];
      switch (common.blocks[b].outputs / kChannelAlign) {
        case 1:
          winograd_units<V, 1>(task, scratch, segment, inputs, products);
          break;
        case 2:
          winograd_units<V, 2>(task, scratch, segment, inputs, products);
          break;
        case 3:
          winograd_units<V, 3>(task, scratch, segment, inputs, products);
          break;
        default:
          winograd_units<V, 4>(task, scratch, segment, inputs, products);
      }
      if (task.epilogue->words == nullptr)
        winograd_finish<V>(task, squares, b, n, scratch.products_apart, products,
                           reinterpret_cast<std::int32_t*>(sums));
      else
        winograd_finish<V>(task, squares, b, n, scratch.products_apart, products,
                           reinterpret_cast<std::int16_t*>(sums));
    }
  }
}
constexpr ConvRow kWinogradRow = {
    .name = "winograd",
    .summary = "3x3 windows of stride 1, 16-bit sums, zeros not skipped",
    .isa = kIsa,
    .takes_signed = false,
    .is_padded = true,
    .window = 3,
    .most_input = 15,
    .most_weight = 8,
    .tasks = Tasks::squares,
    .does_all_blocks = true,
    .grain = kWinogradGrain,
    .most_outputs = 128,
    .usual_outputs = 128,
    .usual_pixels = 32,
    .lanes32 = Vector::kLanes32,
    .staging_bytes = Staging::kBytes,
    .channel_group = kWinogradGroup,
    .pack = pack_winograd,
    .scratch = kWinogradGroup == 1 ? winograd_single_scratch : winograd_scratch,
    .run = conv_winograd,
    .tile = winograd_tile,
};

}  // namespace
}  // namespace nybble

// Winograd convolution F(2x2, 3x3) with 32-bit sums of four transformed inputs at a time, plain and with the fast inner
// product (winograd_quad.h has the arithmetic). Included by one file per instruction set, after the vector type.
//
// A task transforms the inputs of its squares once, position by position as pixels lie in memory. Then 32 outputs at a
// time: a few squares' products at all 16 positions, which stay in L1, become sums and are finished.
#pragma once

#include "kernels/conv/dot.inc.h"
#include "kernels/conv/inner.inc.h"
#include "kernels/conv/tile.inc.h"
#include "kernels/conv/winograd.inc.h"
#include "kernels/conv/winograd_quad.h"

namespace nybble {
namespace {

// The four positions of a row of B'd, with their offsets.
NYBBLE_INLINE void winograd_quad_row(const Staging::Bytes (&d)[4], Staging::Bytes offset, Staging::Bytes second,
                                     std::int64_t apart, std::uint8_t* out) {
  using B = Staging;
  B::store(out, B::add8(B::sub8(d[0], d[2]), offset));
  B::store(out + apart, B::add8(B::add8(d[1], d[2]), second));
  B::store(out + 2 * apart, B::add8(B::sub8(d[2], d[1]), offset));
  B::store(out + 3 * apart, B::add8(B::sub8(d[1], d[3]), offset));
}

// B'dB of Staging::kBytes channels of the 4x4 pixels; bytes are added modulo 2^8, and the results fit.
NYBBLE_INLINE void winograd_quad_input(const WinogradQuadPacked& packed, const std::uint8_t* const* pixels,
                                       std::int32_t channel, std::int64_t apart, std::uint8_t* out) {
  using B = Staging;
  const auto offset = B::set8(static_cast<std::int8_t>(packed.offset));
  const auto sum_offset = B::set8(static_cast<std::int8_t>(packed.sum_offset));
  B::Bytes d[4][4], row[4];
  NYBBLE_UNROLL
  for (int i = 0; i < 16; ++i) d[i / 4][i % 4] = B::load(pixels[i] + channel);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[0][c], d[2][c]);
  winograd_quad_row(row, offset, offset, apart, out);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::add8(d[1][c], d[2][c]);
  winograd_quad_row(row, offset, sum_offset, apart, out + 4 * apart);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[2][c], d[1][c]);
  winograd_quad_row(row, offset, offset, apart, out + 8 * apart);
  NYBBLE_UNROLL
  for (int c = 0; c < 4; ++c) row[c] = B::sub8(d[1][c], d[3][c]);
  winograd_quad_row(row, offset, offset, apart, out + 12 * apart);
}

// Of all squares of a task: [position][square][channel].
void winograd_quad_inputs(const ConvTask& task, const Squares& squares, const std::uint8_t* zeros, std::int64_t apart,
                          std::uint8_t* out) {
  const std::int32_t channels = task.shape->input.stride;
  for (std::int32_t t = 0; t < task.pixels; ++t, out += channels) {
    const std::uint8_t* pixels[kPositions];
    winograd_pixels(task, squares, task.first_pixel + t, zeros, pixels);
    for (std::int32_t channel = 0; channel < channels; channel += Staging::kBytes)
      winograd_quad_input(task.packed->as<WinogradQuadPacked>(), pixels, channel, apart, out + channel);
  }
}

// What winograd_quad_products computes, by sums that whole runs are added to.
template <class Sums, int T>
__attribute__((noinline)) void winograd_run_products(const std::uint8_t* const* squares, std::int64_t channels,
                                                     std::int64_t apart, const std::uint8_t* weights,
                                                     std::int32_t* products) {
  const std::uint8_t* inputs[T];
  for_each_index<T>([&](auto t) NYBBLE_LAMBDA { inputs[t] = squares[t]; });
  for (int position = 0; position < kPositions; ++position) {
    Sums sums([&](std::int32_t) NYBBLE_LAMBDA { return Sums::V::set32(0); });
    sums.add_run(inputs, weights, static_cast<std::int32_t>(channels) / Sums::kGroup);
    sums.store(products, kChannelAlign);
    for_each_index<T>([&](auto t) NYBBLE_LAMBDA { inputs[t] += apart - channels; });
    products += kMostQuadSquares * kChannelAlign;
  }
}

// Vectors of outputs that are computed together.
template <class V, bool kIsInner>
constexpr int kWinogradQuadVectors = kIsInner ? 2 : decltype(quad_dot<V>())::kVectors;

// Products of T squares and two vectors of outputs at all positions, [position][square][output].
template <class V, int T, bool kIsInner>
__attribute__((noinline)) void winograd_quad_products(const std::uint8_t* const* squares, std::int64_t channels,
                                                      std::int64_t apart, const std::uint8_t* weights,
                                                      std::int32_t* products) {
  constexpr std::int32_t kHalf = kInnerChannels / 2;
  const std::uint8_t* inputs[T];
  for_each_index<T>([&](auto t) NYBBLE_LAMBDA { inputs[t] = squares[t]; });
  std::int64_t at = 0;
  for (int position = 0; position < kPositions; ++position) {
    typename V::I32 acc[T][2];
    for_each_index<2 * T>([&](auto i) NYBBLE_LAMBDA { acc[i / 2][i % 2] = V::set32(0); });
    for (const std::int64_t end = at + channels; at != end; at += kInnerChannels) {
      // Opaque: the compiler would keep a pointer for each square and move all of them, more than there are registers.
      __asm__("" : "+r"(at));
      for_each_index<kIsInner ? kHalf / 4 : kInnerChannels / 4>([&](auto four) NYBBLE_LAMBDA {
        const auto x0 = V::load(weights), x1 = V::load(weights + V::kBytes);
        if constexpr (kIsInner) {
          const auto y0 = V::load(weights + 2 * V::kBytes), y1 = V::load(weights + 3 * V::kBytes);
          weights += 4 * V::kBytes;
          for_each_index<T>([&](auto t) NYBBLE_LAMBDA {
            const auto first = V::broadcast4(inputs[t] + at + 4 * four);
            const auto second = V::broadcast4(inputs[t] + at + kHalf + 4 * four);
            acc[t][0] = V::add_quads(acc[t][0], V::add8(first, x0), V::add8(second, y0));
            acc[t][1] = V::add_quads(acc[t][1], V::add8(first, x1), V::add8(second, y1));
          });
        } else {
          weights += 2 * V::kBytes;
          for_each_index<T>([&](auto t) NYBBLE_LAMBDA {
            const auto input = V::broadcast4(inputs[t] + at + 4 * four);
            acc[t][0] = V::add_quads(acc[t][0], input, x0);
            acc[t][1] = V::add_quads(acc[t][1], input, x1);
          });
        }
      });
    }
    for_each_index<2 * T>([&](auto i) NYBBLE_LAMBDA {
      V::store32(products + i / 2 * kChannelAlign + i % 2 * V::kLanes32, acc[i / 2][i % 2]);
    });
    at += apart - channels;
    products += kMostQuadSquares * kChannelAlign;
  }
}

// A'm for one column of positions.
template <class V>
NYBBLE_INLINE void winograd_column32(const typename V::I32 (&m)[4], typename V::I32& first, typename V::I32& second) {
  first = V::add32(V::add32(m[0], m[1]), m[2]);
  second = V::sub32(V::sub32(m[1], m[2]), m[3]);
}

// What the pairs of channels of each square add to four times its outputs, [square][output pixel].
template <class V>
void winograd_quad_terms(const ConvTask& task, const std::uint8_t* inputs, std::int64_t apart, std::uint32_t* terms) {
  const std::int32_t channels = task.shape->input.stride;
  const ByteOffsets offsets{task.packed->as<WinogradQuadPacked>().pair_offset, 0};
  for (std::int32_t t = 0; t < task.pixels; ++t, inputs += channels, terms += 4) {
    std::uint32_t m[4][4], z[2][4];
    for (int i = 0; i < kPositions; ++i) m[i / 4][i % 4] = inner_pixel_sum<V>(inputs + i * apart, channels, offsets);
    for (int c = 0; c < 4; ++c) {
      z[0][c] = m[0][c] + m[1][c] + m[2][c];
      z[1][c] = m[1][c] - m[2][c] - m[3][c];
    }
    for (int r = 0; r < 2; ++r) {
      terms[2 * r] = z[r][0] + z[r][1] + z[r][2];
      terms[2 * r + 1] = z[r][1] - z[r][2] - z[r][3];
    }
  }
}

// The sums of 32 outputs of one square, with `bias`: [output pixel][output].
template <class V>
NYBBLE_INLINE void winograd_quad_sums(const std::int32_t* products, const std::int32_t* constants,
                                      const std::uint32_t* terms, const std::int32_t* bias, std::int32_t* sums) {
  using I32 = typename V::I32;
  constexpr std::int64_t kApart = kMostQuadSquares * kChannelAlign;
  for (std::int32_t k = 0; k < kChannelAlign; k += V::kLanes32) {
    I32 z[2][4];
    for_each_index<4>([&](auto column) NYBBLE_LAMBDA {
      I32 m[4];
      for_each_index<4>([&](auto row)
                            NYBBLE_LAMBDA { m[row] = V::load32(products + (4 * row + column) * kApart + k); });
      winograd_column32<V>(m, z[0][column], z[1][column]);
    });
    for_each_index<2>([&](auto row) NYBBLE_LAMBDA {
      I32 y[2];
      winograd_column32<V>(z[row], y[0], y[1]);
      for_each_index<2>([&](auto column) NYBBLE_LAMBDA {
        const std::int32_t place = (2 * row + column) * kChannelAlign + k;
        auto sum = V::add32(y[column], V::load32(constants + place));
        if (terms != nullptr) sum = V::sub32(sum, V::set32(static_cast<std::int32_t>(terms[2 * row + column])));
        V::store32(sums + place, V::add32(V::template shift_right32<2>(sum), V::load32(bias + k)));
      });
    });
  }
}

// Some squares, and 32 outputs of them from `first`.
struct QuadSquares {
  const Squares& all;
  std::int64_t first_square;
  std::int32_t count, first;
};

// Calls finish(pixel's Finish, its sums) for every output pixel of the squares.
template <class V, class F>
NYBBLE_INLINE void winograd_quad_each(const ConvTask& task, const QuadSquares& squares, const std::uint32_t* terms,
                                      const std::int32_t* products, const std::int32_t* bias, const F& finish) {
  const Layout& output = task.shape->output;
  const std::int32_t first = squares.first;
  const std::int32_t* constants = task.packed->as<WinogradQuadPacked>().constants + std::int64_t{first} * 4;
  for (std::int32_t t = 0; t < squares.count; ++t) {
    alignas(64) std::int32_t sums[4 * kChannelAlign];
    winograd_quad_sums<V>(products + t * kChannelAlign, constants, terms == nullptr ? nullptr : terms + t * 4, bias,
                          sums);
    const Square square(squares.all, squares.first_square + t);
    for (std::int32_t i = 0; i < 4; ++i) {
      const std::int32_t y = square.y + i / 2, x = square.x + i % 2;
      if (y >= output.height || x >= output.width) continue;
      const std::int64_t pixel = (square.image * output.height + y) * output.width + x;
      finish(Finish{*task.epilogue, output, pixel, pixel * output.stride + first, first, task.shortcut, task.output},
             sums + i * kChannelAlign);
    }
  }
}

template <class V, Words kWords>
__attribute__((noinline)) void winograd_quad_words(const ConvTask& task, const QuadSquares& squares,
                                                   const std::uint32_t* terms, const std::int32_t* products) {
  winograd_quad_each<V>(task, squares, terms, products, task.epilogue->bias + squares.first,
                        [&](const Finish& f, const std::int32_t* sums)
                            NYBBLE_LAMBDA { finish_word_sums<V, kWords>(f, sums); });
}

// Products become results.
template <class V>
void winograd_quad_finish(const ConvTask& task, const QuadSquares& squares, const std::uint32_t* terms,
                          const std::int32_t* products) {
  const Epilogue& e = *task.epilogue;
  if constexpr (kFinishesWords<V>) {
    if (e.words != nullptr && e.words[squares.first / kChannelAlign] != 0) {
      with_words(e, [&](auto words) NYBBLE_LAMBDA {
        winograd_quad_words<V, decltype(words)::value>(task, squares, terms, products);
      });
      return;
    }
  }
  winograd_quad_each<V>(task, squares, terms, products, kNoBias,
                        [&](const Finish& f, const std::int32_t* sums) NYBBLE_LAMBDA {
                          finish_pixel<V>(e, f.output, f.pixel, f.first, kChannelAlign, f.shortcut, f.out, sums);
                        });
}

// Squares whose sums stay in registers, with what they are made of.
template <class V, bool kIsInner>
constexpr std::int32_t winograd_quad_together() {
  if constexpr (kIsInner)
    return V::kInnerPixels;
  else
    return V::kDotPixels;
}

// The products of `count` squares, of so many at most.
template <class V, bool kIsInner, class... Args>
NYBBLE_INLINE void winograd_some_products(std::int32_t count, Args... args) {
  using Dot = decltype(quad_dot<V>());
  constexpr std::int32_t kTogether = winograd_quad_together<V, kIsInner>();
  if constexpr (Dot::kAddsRuns && !kIsInner)
    with_pixels<Dot::kPixelStep, kTogether>(
        count, [&](auto t) NYBBLE_LAMBDA { winograd_run_products<typename Dot::template Sums<t>, t>(args...); });
  else if (count > kTogether / 2)
    winograd_quad_products<V, kTogether, kIsInner>(args...);
  else if (count > 1)
    winograd_quad_products<V, kTogether / 2, kIsInner>(args...);
  else
    winograd_quad_products<V, 1, kIsInner>(args...);
}

template <class V, bool kIsInner>
void conv_winograd_quad(const ConvTask& task) {
  constexpr std::int32_t kTogether = winograd_quad_together<V, kIsInner>();
  constexpr std::int32_t kStep = kWinogradQuadVectors<V, kIsInner> * V::kLanes32;
  static_assert(kTogether <= kMostQuadSquares && kChannelAlign % kStep == 0);
  const ConvShape& s = *task.shape;
  const WinogradQuadScratch scratch(s, task.pixels);
  const std::int64_t channels = s.input.stride, step_bytes = kPositions * channels * kStep;
  std::uint8_t* inputs = task.scratch + scratch.inputs;
  std::uint32_t* terms = reinterpret_cast<std::uint32_t*>(task.scratch + scratch.terms);
  std::int32_t* products = reinterpret_cast<std::int32_t*>(task.scratch + scratch.products);
  __builtin_memset(task.scratch, 0, static_cast<std::size_t>(channels));
  const Squares squares(s.output);
  winograd_quad_inputs(task, squares, task.scratch, scratch.apart, inputs);
  if constexpr (kIsInner) winograd_quad_terms<V>(task, inputs, scratch.apart, terms);
  const std::uint8_t* weights = task.packed->weights;
  for (std::int32_t first = 0; first < s.output.stride; first += kChannelAlign) {
    for (std::int32_t t = 0; t < task.pixels; t += kTogether) {
      const std::int32_t count = task.pixels - t < kTogether ? task.pixels - t : kTogether;
      const std::uint8_t* places[kTogether];
      // A ragged end repeats its first square and drops the result.
      for (std::int32_t i = 0; i < kTogether; ++i)
        places[i] = inputs + std::int64_t{t + (i < count ? i : 0)} * channels;
      for (std::int32_t k = 0; k < kChannelAlign; k += kStep) {
        const std::uint8_t* step = weights + k / kStep * step_bytes;
        winograd_some_products<V, kIsInner>(count, places, channels, scratch.apart, step, products + k);
      }
      winograd_quad_finish<V>(task, {squares, task.first_pixel + t, count, first},
                              kIsInner ? terms + std::int64_t{t} * 4 : nullptr, products);
    }
    weights += kChannelAlign / kStep * step_bytes;
  }
}

constexpr ConvRow kWinogradQuadRow = {
    .name = "winograd_quad",
    .summary = "3x3 windows of stride 1, four transformed inputs at a time, 32-bit sums, zeros not skipped",
    .isa = kIsa,
    .is_padded = true,
    .window = 3,
    // 4R, or 2R, and 9W fit bytes.
    .most_span = Vector::kHasDotProducts ? 63 : Vector::kMostQuadInput / 4,
    .most_weight = INT8_MAX / 9,
    .times_sums = kWinogradSums,
    .has_dot_products = Vector::kHasDotProducts,
    .has_signed_quads = Vector::kHasSignedQuads,
    .tasks = Tasks::squares,
    .does_all_blocks = true,
    .grain = kMostQuadSquares,
    .most_outputs = kChannelAlign,
    .usual_outputs = kChannelAlign,
    .usual_pixels = Vector::kHasLaneQuads ? 8 * Vector::kDotPixels : 64,
    .lanes32 = Vector::kLanes32,
    .dot_vectors = kWinogradQuadVectors<Vector, false>,
    .dot_group = decltype(quad_dot<Vector>())::kGroup,
    .finishes_words = kFinishesWords<Vector>,
    .pack = pack_winograd_quad,
    .scratch = winograd_quad_scratch,
    .run = conv_winograd_quad<Vector, false>,
    .tile = winograd_quad_tile,
};

// A template, so that only instruction sets with dot products of unsigned bytes have the kernel.
template <class V>
constexpr ConvRow kWinogradInnerRow = {
    .name = "winograd_inner",
    .summary = "3x3 windows of stride 1, the fast inner product of transformed inputs, 32-bit sums, zeros not skipped",
    .isa = kIsa,
    .is_padded = true,
    .window = 3,
    // 2R + 9W fits a signed byte.
    .most_span = 15,
    .most_weight = (INT8_MAX - 2 * 15) / 9,
    .times_sums = kWinogradSums,
    .has_dot_products = true,
    .tasks = Tasks::squares,
    .does_all_blocks = true,
    .grain = kMostQuadSquares,
    .most_outputs = kChannelAlign,
    .usual_outputs = kChannelAlign,
    .usual_pixels = 64,
    .lanes32 = V::kLanes32,
    .finishes_words = kFinishesWords<V>,
    .pack = pack_winograd_inner,
    .scratch = winograd_quad_scratch,
    .run = conv_winograd_quad<V, true>,
    .tile = winograd_quad_tile,
};

}  // namespace
}  // namespace nybble

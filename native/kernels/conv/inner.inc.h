// Convolution by the fast inner product (inner.h), 32-bit sums, groups of one. Included by the file of an instruction
// set that has dot products, after its vector type.
//
// Weights have p and -q already, so that inputs are multiplied as they lie in memory, signed ones too: bytes are added
// modulo 2^8, and the sums fit. Staging is that of the other kernels with 32-bit sums.
#pragma once

#include "kernels/conv/inner.h"
#include "kernels/conv/stage.inc.h"
#include "kernels/conv/tile.inc.h"

namespace nybble {
namespace {

// The sum of (a0 + p)(a1 - q) over some channels of one pixel, 2^17 at most: 2^16 products of 255 * 128 fit 32 bits.
// Sums are signed, as compilers want them to be to make dot products of this.
template <class V>
NYBBLE_INLINE std::int32_t inner_part_sum(const std::uint8_t* pixel, std::int32_t channels, ByteOffsets offsets) {
  const auto p = static_cast<std::uint8_t>(offsets.first), q = static_cast<std::uint8_t>(offsets.second);
  constexpr std::int32_t kHalf = kInnerChannels / 2;
  if constexpr (requires { V::sum_halves(pixel, channels, 0, 0); }) {
    static_assert(kHalf == 16);
    return V::sum_halves(pixel, channels, static_cast<char>(p), static_cast<char>(q));
  } else {
    std::int32_t sum = 0;
    for (std::int32_t c = 0; c < channels; c += kInnerChannels)
      for (std::int32_t i = c; i < c + kHalf; ++i)
        sum += std::int32_t{static_cast<std::uint8_t>(pixel[i] + p)} * static_cast<std::int8_t>(pixel[i + kHalf] - q);
    return sum;
  }
}

// Over all of them, modulo 2^32.
template <class V>
NYBBLE_INLINE std::uint32_t inner_pixel_sum(const std::uint8_t* pixel, std::int32_t channels, ByteOffsets offsets) {
  constexpr std::int32_t kMost = 1 << 14;
  std::uint32_t sum = 0;
  for (; channels > kMost; channels -= kMost, pixel += kMost)
    sum += static_cast<std::uint32_t>(inner_part_sum<V>(pixel, kMost, offsets));
  return sum + static_cast<std::uint32_t>(inner_part_sum<V>(pixel, channels, offsets));
}

// Of every pixel of the staged rows, [kernel row][column]. Out of line: among other loops GCC 12 makes no dot products
// of it, which takes a fifth of a layer's time.
template <class V>
[[gnu::noinline]] void inner_pixel_sums(const ConvTask& task, const std::uint8_t* staged, std::int64_t columns,
                                        std::int64_t row, std::uint32_t* sums) {
  const ConvShape& s = *task.shape;
  const ByteOffsets offsets = task.packed->as<InnerPacked>().offsets;
  for (std::int32_t r = 0; r < s.kernel_h; ++r, staged += row)
    for (std::int64_t c = 0; c < columns; ++c)
      *sums++ = inner_pixel_sum<V>(staged + c * s.input.stride, s.input.stride, offsets);
}

// Of the window of one output pixel of the task.
NYBBLE_INLINE std::uint32_t inner_window_sum(const ConvShape& s, const std::uint32_t* sums, std::int64_t columns,
                                             std::int32_t pixel) {
  std::uint32_t total = 0;
  sums += std::int64_t{pixel} * s.stride_w;
  for (std::int32_t r = 0; r < s.kernel_h; ++r, sums += columns)
    for (std::int64_t c = 0; c < s.kernel_w; ++c) total += sums[c * s.dilation_w];
  return total;
}

// Sums of two vectors of outputs of P pixels.
template <class V, int P>
using InnerSums = typename V::I32[P][2];

// Starts them as `correction` and `bias` less the pixel's own sum.
template <class V, int P>
NYBBLE_INLINE void start_inner(const std::uint32_t* window_sums, const std::int32_t* correction,
                               const std::int32_t* bias, InnerSums<V, P>& acc) {
  typename V::I32 starts[2];
  for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
    starts[i] = V::add32(V::load32(correction + i * V::kLanes32), V::load32(bias + i * V::kLanes32));
  });
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    const auto own = V::set32(static_cast<std::int32_t>(window_sums[p]));
    acc[p][0] = V::sub32(starts[0], own);
    acc[p][1] = V::sub32(starts[1], own);
  });
}

// Adds the products of whole windows.
template <class V, int P>
NYBBLE_INLINE void add_inner(const ConvTask& task, const std::uint8_t* const* windows, std::int64_t staged_row,
                             const std::uint8_t* weights, InnerSums<V, P>& acc) {
  const ConvShape& s = *task.shape;
  const InnerPacked& packed = task.packed->as<InnerPacked>();
  constexpr std::int32_t kHalf = kInnerChannels / 2;
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < packed.runs_per_row; ++c) {
      const std::uint8_t* inputs[P];
      const std::int64_t start = r * staged_row + std::int64_t{c} * s.dilation_w * s.input.stride;
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA { inputs[p] = windows[p] + start; });
      const std::int64_t end = std::int64_t{packed.run_chunks} * kInnerChannels;
      for (std::int64_t at = 0; at != end; at += kInnerChannels) {
        // Opaque: the compiler would keep a pointer for each pixel and move all of them, more than there are registers.
        __asm__("" : "+r"(at));
        for_each_index<kHalf / 4>([&](auto four) NYBBLE_LAMBDA {
          const auto x0 = V::load(weights), x1 = V::load(weights + V::kBytes);
          const auto y0 = V::load(weights + 2 * V::kBytes), y1 = V::load(weights + 3 * V::kBytes);
          weights += 4 * V::kBytes;
          for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
            const auto first = V::broadcast4(inputs[p] + at + 4 * four);
            const auto second = V::broadcast4(inputs[p] + at + kHalf + 4 * four);
            acc[p][0] = V::add_quads(acc[p][0], V::add8(first, x0), V::add8(second, y0));
            acc[p][1] = V::add_quads(acc[p][1], V::add8(first, x1), V::add8(second, y1));
          });
        });
      }
    }
}

// Two vectors of outputs of P pixels.
template <class V, int P>
__attribute__((noinline)) void inner_pixels(const ConvTask& task, const std::uint8_t* const* windows,
                                            const std::uint32_t* window_sums, std::int64_t staged_row,
                                            const std::uint8_t* weights, const std::int32_t* correction,
                                            const std::int32_t* bias, std::int32_t* sums, std::int64_t sums_of_pixel) {
  InnerSums<V, P> acc;
  start_inner<V, P>(window_sums, correction, bias, acc);
  add_inner<V, P>(task, windows, staged_row, weights, acc);
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    V::store32(sums + p * sums_of_pixel, acc[p][0]);
    V::store32(sums + p * sums_of_pixel + V::kLanes32, acc[p][1]);
  });
}

// The same of P pixels from `pixel`, finished in registers.
template <class V, int P, class HowTo>
__attribute__((noinline)) void inner_finished(const ConvTask& task, const std::uint8_t* const* windows,
                                              const std::uint32_t* window_sums, std::int64_t staged_row,
                                              const std::uint8_t* weights, const std::int32_t* bias, std::int32_t first,
                                              std::int64_t pixel) {
  InnerSums<V, P> acc;
  start_inner<V, P>(window_sums, task.packed->as<InnerPacked>().correction + first, bias, acc);
  add_inner<V, P>(task, windows, staged_row, weights, acc);
  finish_in_registers<V, P>(HowTo{}, task, pixel, first, acc);
}

// The same of up to kInnerPixels pixels.
template <class V, class... Args>
NYBBLE_INLINE void inner_any_pixels(std::int32_t count, const ConvTask& task, Args... args) {
  constexpr std::int32_t kPixels = V::kInnerPixels;
  if (count > kPixels / 2)
    inner_pixels<V, kPixels>(task, args...);
  else if (count > 1)
    inner_pixels<V, kPixels / 2>(task, args...);
  else
    inner_pixels<V, 1>(task, args...);
}

// The task's pixels lie in one output row, or the convolution is pointwise and they are read where they lie.
template <class V>
void conv_inner(const ConvTask& task) {
  constexpr std::int32_t kStep = 2 * V::kLanes32, kPixels = V::kInnerPixels;
  static_assert(kPixels <= kMostInnerPixels);
  const ConvShape& s = *task.shape;
  const InnerPacked& packed = task.packed->as<InnerPacked>();
  const Epilogue& e = *task.epilogue;
  const OutputBlock& block = task.packed->blocks[task.block];
  const InnerScratch scratch(s, task.packed->most_outputs, task.pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  std::uint32_t* pixel_sums = reinterpret_cast<std::uint32_t*>(task.scratch + scratch.pixel_sums);
  const std::uint8_t* staged = static_cast<const std::uint8_t*>(task.input) + task.first_pixel * s.input.stride;
  if (!s.pointwise()) {
    stage_rows<std::uint8_t>(task, scratch.row, 0, task.scratch + scratch.staged);
    staged = task.scratch + scratch.staged;
  }
  inner_pixel_sums<V>(task, staged, scratch.columns, scratch.row, pixel_sums);
  const std::int64_t step_bytes =
      std::int64_t{s.kernel_h} * packed.runs_per_row * packed.run_chunks * kInnerChannels * kStep;

  const std::int32_t group = pixel_group<V, kPixels>(task.pixels);
  for (std::int32_t p = 0; p < task.pixels; p += group) {
    const std::int32_t count = task.pixels - p < group ? task.pixels - p : group;
    const std::uint8_t* windows[kPixels];
    std::uint32_t window_sums[kPixels];
    // A ragged end repeats its first pixel and drops the result.
    for (std::int32_t i = 0; i < kPixels; ++i) {
      const std::int32_t pixel = p + (i < count ? i : 0);
      windows[i] = staged + std::int64_t{pixel} * s.stride_w * s.input.stride;
      window_sums[i] = inner_window_sum(s, pixel_sums, scratch.columns, pixel);
    }
    for (std::int32_t i = 0; i < count; ++i)
      prefetch_finish(e, s.output, task.first_pixel + p + i, block.first, block.outputs, task.shortcut, task.output);
    const std::uint8_t* weights = task.packed->weights + block.offset;
    const std::int64_t pixel = task.first_pixel + p;
    for (std::int32_t k = 0; k < block.outputs; k += kStep, weights += step_bytes) {
      const std::int32_t first = block.first + k;
      if constexpr (kSumsAreGroups<V>) {
        const TileFinish<V> finish(e, first);
        if (finish.template in_registers<kPixels>(count, [&](auto pixels, auto how_to) NYBBLE_LAMBDA {
              inner_finished<V, pixels, decltype(how_to)>(task, windows, window_sums, scratch.row, weights, finish.bias,
                                                          first, pixel);
            }))
          continue;
        inner_any_pixels<V>(count, task, windows, window_sums, scratch.row, weights, packed.correction + first,
                            finish.bias, sums, std::int64_t{kStep});
        finish(s.output, pixel, count, first, task.shortcut, task.output, sums);
      } else {
        inner_any_pixels<V>(count, task, windows, window_sums, scratch.row, weights, packed.correction + first, kNoBias,
                            sums + k, std::int64_t{block.outputs});
      }
    }
    if constexpr (!kSumsAreGroups<V>)
      for (std::int32_t i = 0; i < count; ++i)
        finish_pixel<V>(e, s.output, pixel + i, block.first, block.outputs, task.shortcut, task.output,
                        sums + i * block.outputs);
  }
}

// A template, so that only instruction sets with dot products have the kernel.
template <class V>
constexpr ConvRow kInnerRow = {
    .name = "inner",
    .summary = "the fast inner product: half the products, of sums of inputs and weights; 32-bit sums",
    .isa = kIsa,
    .is_padded = true,
    .has_byte_sums = true,
    .has_dot_products = true,
    .tasks = Tasks::row_unless_pointwise,
    .usual_outputs = 128,
    .lanes32 = V::kLanes32,
    .pack = pack_inner,
    .scratch = inner_scratch,
    .run = conv_inner<V>,
};

}  // namespace
}  // namespace nybble

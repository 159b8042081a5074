// Convolution of any 8-bit types with 32-bit sums, groups of one. Included by one file per instruction
// set, after the vector type V, inside its unnamed namespace. A policy says how many neighbouring inputs
// one 32-bit lane multiplies: two as 16-bit values (vpmaddwd: exact for every type), or four as bytes
// (vpdpbusd, or vpmaddubsw where no pair can pass 16 bits).
//
// The input rows that one output row needs are first copied to scratch, padding included, in the type
// that the policy multiplies. A window is then a number of contiguous runs: one a kernel row without
// dilation, which keeps a three-channel 7x7 window from wasting a lane on a fourth channel. Weights are
// bytes, [block][run][group of inputs][output][input of the group], short groups filled with zeros.
#include "kernels/conv/epilogue.inc.h"

template <class Vec>
struct WideDot {
  using V = Vec;
  using Staged = std::int16_t;
  static constexpr int kGroup = 2;
  static NYBBLE_INLINE auto weights(const std::uint8_t* p) { return V::widen_pairs(p); }
  static NYBBLE_INLINE typename V::I32 accumulate(typename V::I32 sum, typename V::I32 inputs, typename V::I32 w) {
    return V::add32(sum, V::multiply_wide_pairs(inputs, w));
  }
};

template <class Vec>
struct QuadDot {
  using V = Vec;
  using Staged = std::uint8_t;
  static constexpr int kGroup = 4;
  static NYBBLE_INLINE auto weights(const std::uint8_t* p) { return V::load(p); }
  static NYBBLE_INLINE typename V::I32 accumulate(typename V::I32 sum, typename V::I32 inputs, typename V::I32 w) {
    return V::add_quads(sum, inputs, w);
  }
};

template <class Dot, int P>
void dot_pixels(const ConvTask& task, const OutputBlock& block, const typename Dot::Staged* const* windows,
                std::int64_t staged_row, std::int32_t vector, std::int32_t* sums) {
  using V = typename Dot::V;
  const ConvShape& s = *task.shape;
  const PackedConv& packed = *task.packed;
  const std::int64_t group_bytes = std::int64_t{block.outputs} * Dot::kGroup;
  constexpr int kVectorBytes = V::kLanes32 * Dot::kGroup;
  const std::uint8_t* weights = packed.weights + block.offset + std::int64_t{vector} * 2 * kVectorBytes;
  typename V::I32 acc[P][2];
  for (int p = 0; p < P; ++p) acc[p][0] = acc[p][1] = V::set32(0);
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < packed.runs_per_row; ++c) {
      const std::int64_t start = r * staged_row + std::int64_t{c} * s.dilation_w * s.input.stride;
      for (std::int32_t k = 0; k < packed.run_groups; ++k, weights += group_bytes) {
        const auto w0 = Dot::weights(weights);
        const auto w1 = Dot::weights(weights + kVectorBytes);
        for (int p = 0; p < P; ++p) {
          const auto inputs = V::broadcast32(windows[p] + start + Dot::kGroup * k);
          acc[p][0] = Dot::accumulate(acc[p][0], inputs, w0);
          acc[p][1] = Dot::accumulate(acc[p][1], inputs, w1);
        }
      }
    }
  for (int p = 0; p < P; ++p) {
    V::store32(sums + p * block.outputs, acc[p][0]);
    V::store32(sums + p * block.outputs + V::kLanes32, acc[p][1]);
  }
}

// Copies the input that the task's windows cover to `staged`, a row for each kernel row. Pixels outside
// the image are zero.
// The policy of four inputs multiplies unsigned bytes: `offset` is added to signed ones, padding
// included, and what it adds to each sum is taken away at the end.
template <typename In, typename Staged>
void stage_rows(const ConvTask& task, std::int64_t staged_row, std::int32_t offset, Staged* staged) {
  const ConvShape& s = *task.shape;
  const Staged zero = static_cast<Staged>(offset);
  const In* input = static_cast<const In*>(task.input);
  if (s.pointwise()) {
    const In* source = input + task.first_pixel * s.input.stride;
    const std::int64_t count = std::int64_t{task.pixels} * s.input.stride;
    for (std::int64_t i = 0; i < count; ++i) staged[i] = static_cast<Staged>(source[i] + offset);
    for (std::int64_t i = count; i < staged_row; ++i) staged[i] = zero;
    return;
  }
  const std::int64_t image = task.first_pixel / s.output.pixels();
  const std::int64_t within = task.first_pixel % s.output.pixels();
  const std::int32_t top = static_cast<std::int32_t>(within / s.output.width) * s.stride_h - s.pad_top;
  const std::int32_t left = static_cast<std::int32_t>(within % s.output.width) * s.stride_w - s.pad_left;
  input += image * s.input.image_elements();

  // Elements of a staged row before, inside and after the image, in that order.
  const std::int64_t window = (staged_row - kStagedSlack) / s.input.stride;
  const std::int64_t before = left < 0 ? (-left < window ? -left : window) : 0;
  const std::int64_t start = left > 0 ? left : 0;
  std::int64_t inside = s.input.width - start;
  if (inside > window - before) inside = window - before;
  if (inside < 0) inside = 0;
  for (std::int32_t r = 0; r < s.kernel_h; ++r, staged += staged_row) {
    const std::int32_t y = top + r * s.dilation_h;
    const bool present = y >= 0 && y < s.input.height;
    const std::int64_t from = present ? before * s.input.stride : staged_row;
    const std::int64_t to = present ? from + inside * s.input.stride : staged_row;
    for (std::int64_t i = 0; i < from; ++i) staged[i] = zero;
    if (present) {
      const In* source = input + (std::int64_t{y} * s.input.width + start) * s.input.stride;
      for (std::int64_t i = from; i < to; ++i) staged[i] = static_cast<Staged>(source[i - from] + offset);
    }
    for (std::int64_t i = to; i < staged_row; ++i) staged[i] = zero;
  }
}

// The task's pixels lie in one output row, or the convolution is pointwise.
template <class Dot>
void conv_dot(const ConvTask& task) {
  using V = typename Dot::V;
  using Staged = typename Dot::Staged;
  constexpr std::int32_t kStep = 2 * V::kLanes32;
  const ConvShape& s = *task.shape;
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::int64_t staged_row = staged_row_elements(s, task.pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  Staged* staged = reinterpret_cast<Staged*>(sums + kDotPixels * block.outputs);
  const std::int32_t offset = task.packed->offset;
  if (s.input.element == Element::u8)
    stage_rows<std::uint8_t>(task, staged_row, offset, staged);
  else
    stage_rows<std::int8_t>(task, staged_row, offset, staged);

  for (std::int32_t p = 0; p < task.pixels; p += kDotPixels) {
    const std::int32_t count = task.pixels - p < kDotPixels ? task.pixels - p : kDotPixels;
    const Staged* windows[kDotPixels];
    // A ragged end repeats its first pixel and drops the result.
    for (std::int32_t i = 0; i < kDotPixels; ++i)
      windows[i] = staged + std::int64_t{p + (i < count ? i : 0)} * s.stride_w * s.input.stride;
    for (std::int32_t vector = 0; vector < block.outputs / kStep; ++vector) {
      std::int32_t* target = sums + vector * kStep;
      if (count == 1)
        dot_pixels<Dot, 1>(task, block, windows, staged_row, vector, target);
      else
        dot_pixels<Dot, kDotPixels>(task, block, windows, staged_row, vector, target);
    }
    const std::int32_t* correction = task.packed->correction + block.first;
    for (std::int32_t i = 0; i < count; ++i) {
      std::int32_t* target = sums + i * block.outputs;
      for (std::int32_t k = 0; k < block.outputs; k += V::kLanes32)
        V::store32(target + k, V::add32(V::load32(target + k), V::load32(correction + k)));
      finish_pixel<V>(*task.epilogue, s.output, task.first_pixel + p + i, block.first, block.outputs, task.shortcut,
                      task.output, target);
    }
  }
}

void conv_wide(const ConvTask& task) { conv_dot<WideDot<Vector>>(task); }
void conv_quad(const ConvTask& task) { conv_dot<QuadDot<Vector>>(task); }

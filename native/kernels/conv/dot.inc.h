// Convolution of any 8-bit types with 32-bit sums, groups of one. Included by one file per instruction
// set, after its vector type. A policy says how many neighbouring inputs
// one 32-bit lane multiplies: two as 16-bit values (vpmaddwd: exact for every type), or four as bytes
// (vpdpbusd, or vpmaddubsw where no pair can pass 16 bits).
//
// The input rows that one output row needs are first copied to scratch, padding included, in the type
// that the policy multiplies. A window is then a number of contiguous runs: one per kernel row without
// dilation, which keeps a three-channel 7x7 window from wasting a lane on a fourth channel. Weights are
// bytes, [block][vectors computed together][run][group of inputs][output][input of the group], short groups filled with
// zeros: what is read together follows each other in memory, since it may come from L2.
#pragma once

#include "kernels/conv/dot.h"
#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/few.inc.h"
#include "kernels/conv/lane_dot.inc.h"
#include "kernels/conv/matrix.inc.h"
#include "kernels/conv/stage.inc.h"
#include "kernels/conv/tile.inc.h"
#include "kernels/conv/windows.inc.h"

namespace nybble {
namespace {

template <class Vec>
struct WideDot {
  using V = Vec;
  static constexpr bool kAddsRuns = false, kHasWholeSums = true;
  static constexpr int kVectors = 2;
  static constexpr int kTogether = 1;
  using Staged = std::int16_t;
  static constexpr int kGroup = 2;
  static NYBBLE_INLINE auto weights(const std::uint8_t* p) { return V::widen_bytes(p); }
  static NYBBLE_INLINE auto inputs(const Staged* p) { return V::broadcast_words(p); }
  using Sums = typename V::I32;
  static NYBBLE_INLINE Sums start(typename V::I32 sums) { return sums; }
  static NYBBLE_INLINE Sums accumulate(Sums sums, typename V::I16 inputs, typename V::I16 w) {
    return V::add32(sums, V::multiply_wide_pairs(inputs, w));
  }
  static NYBBLE_INLINE void hold(Sums& sums) { V::hold(sums); }
  static NYBBLE_INLINE typename V::I32 result(Sums sums, typename V::I32) { return sums; }
};

template <class Vec>
struct QuadDot {
  using V = Vec;
  static constexpr bool kAddsRuns = false, kHasWholeSums = true;
  static constexpr int kVectors = 2;
  static constexpr int kTogether = 1;
  using Staged = std::uint8_t;
  static constexpr int kGroup = 4;
  static NYBBLE_INLINE auto weights(const std::uint8_t* p) { return V::load(p); }
  static NYBBLE_INLINE auto inputs(const Staged* p) { return V::broadcast4(p); }
  using Sums = typename V::I32;
  static NYBBLE_INLINE Sums start(typename V::I32 sums) { return sums; }
  static NYBBLE_INLINE Sums accumulate(Sums sums, typename V::Bytes inputs, typename V::Bytes w) {
    return V::add_quads(sums, inputs, w);
  }
  static NYBBLE_INLINE void hold(Sums& sums) { V::hold(sums); }
  static NYBBLE_INLINE typename V::I32 result(Sums sums, typename V::I32) { return sums; }
};

// Sums that whole runs are added to. A quad of inputs is a part of a vector (lane_dot.inc.h).
template <class Vec>
struct LaneQuadDot {
  using V = Vec;
  static constexpr bool kAddsRuns = true;
  static constexpr int kVectors = V::kDotVectors;
  using Staged = std::uint8_t;
  static constexpr int kGroup = 4, kPixelStep = 1;
  template <int P>
  using Sums = LaneSums<V, P>;
};

// Matrices of eight inputs of two pixels and two outputs (matrix.inc.h): weights are packed in groups of eight.
template <class Vec>
struct MatrixDot {
  using V = Vec;
  static constexpr bool kAddsRuns = true;
  static constexpr int kVectors = V::kDotVectors;
  using Staged = std::uint8_t;
  static constexpr int kGroup = 8, kPixelStep = 2;
  template <int P>
  using Sums = MatrixSums<V, P>;
};

// Sums of neighbours in two vectors, which are added at the end: exact for any bytes of one sign or the other.
template <class Vec>
struct SplitQuadDot {
  using V = Vec;
  static constexpr bool kAddsRuns = false, kHasWholeSums = false;
  static constexpr int kVectors = 2;
  static constexpr int kTogether = 2;
  using Staged = std::uint8_t;
  static constexpr int kGroup = 4;
  static NYBBLE_INLINE auto weights(const std::uint8_t* p) { return V::load(p); }
  static NYBBLE_INLINE auto inputs(const Staged* p) { return V::broadcast4(p); }
  using Sums = typename V::SplitSums;
  static NYBBLE_INLINE Sums start(typename V::I32) { return {V::set32(0), V::set32(0)}; }
  static NYBBLE_INLINE Sums accumulate(Sums sums, typename V::Bytes inputs, typename V::Bytes w) {
    V::add_split_quads(sums.low, sums.high, inputs, w);
    return sums;
  }
  static NYBBLE_INLINE void hold(Sums& sums) {
    V::hold(sums.low);
    V::hold(sums.high);
  }
  template <int P>
  static NYBBLE_INLINE void add_together(Sums (&acc)[P][2], const std::uint8_t* const (&inputs)[P], std::int64_t at,
                                         const std::uint8_t*& w) {
    typename V::Bytes weights[4];
    V::load_next_four(w, weights);
    for_each_index<P>([&](auto p) NYBBLE_LAMBDA { V::add_two_split_quads(acc[p], inputs[p] + at, weights); });
  }
  static NYBBLE_INLINE typename V::I32 result(Sums sums, typename V::I32 start) {
    return V::add32(start, V::join_quads(sums.low, sums.high));
  }
};

template <class V>
NYBBLE_INLINE constexpr auto quad_dot() {
  if constexpr (V::kHasSplitQuads)
    return SplitQuadDot<V>{};
  else if constexpr (V::kHasMatrixProducts)
    return MatrixDot<V>{};
  else if constexpr (V::kHasLaneQuads)
    return LaneQuadDot<V>{};
  else
    return QuadDot<V>{};
}

// Sums of two vectors of outputs of P pixels, from output `first` of all.
template <class Dot, int P>
using DotSums = typename Dot::Sums[P][2];

// What they start as: the correction and `bias`.
template <class V>
NYBBLE_INLINE typename V::I32 dot_start(const ConvTask& task, std::int32_t first, const std::int32_t* bias,
                                        std::int32_t i) {
  return V::add32(V::load32(task.packed->as<DotPacked>().correction + first + i), V::load32(bias + i));
}

template <class Dot, int P, class Windows>
NYBBLE_INLINE void add_dots(const ConvTask& task, const Windows& windows, std::int64_t staged_row,
                            const std::uint8_t* weights, std::int32_t first, const std::int32_t* bias,
                            DotSums<Dot, P>& acc) {
  using V = typename Dot::V;
  const ConvShape& s = *task.shape;
  const DotPacked& packed = task.packed->as<DotPacked>();
  constexpr int kVectorBytes = V::kLanes32 * Dot::kGroup;
  const typename Dot::Sums starts[2] = {Dot::start(dot_start<V>(task, first, bias, 0)),
                                        Dot::start(dot_start<V>(task, first, bias, V::kLanes32))};
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    acc[p][0] = starts[0];
    acc[p][1] = starts[1];
  });
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < packed.runs_per_row; ++c) {
      const auto inputs = windows.run(r * staged_row + std::int64_t{c} * s.dilation_w * s.input.stride);
      const std::int64_t end = std::int64_t{packed.run_groups} * Dot::kGroup;
      std::int64_t at = 0;
      if constexpr (Dot::kTogether > 1) {
        constexpr int kStep = Dot::kTogether * Dot::kGroup;
        const std::int64_t together_end = std::int64_t{packed.groups_together} * Dot::kGroup;
        for (; at + kStep <= together_end; at += kStep) {
          __asm__("" : "+r"(at));
          Dot::template add_together<P>(acc, inputs.of_pixel, at, weights);
        }
      }
      for (; at != end; at += Dot::kGroup, weights += 2 * kVectorBytes) {
        // Opaque: the compiler would keep a pointer for each pixel and move all of them, more than there are registers.
        __asm__("" : "+r"(at));
        const auto here = inputs.at(at);
        const auto w0 = Dot::weights(weights);
        const auto w1 = Dot::weights(weights + kVectorBytes);
        for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
          const auto input = Dot::inputs(here[p]);
          acc[p][0] = Dot::accumulate(acc[p][0], input, w0);
          acc[p][1] = Dot::accumulate(acc[p][1], input, w1);
        });
      }
    }
}

// Two vectors of outputs of P pixels.
template <class Dot, int P>
__attribute__((noinline)) void dot_pixels(const ConvTask& task, const typename Dot::Staged* const* windows,
                                          std::int64_t staged_row, const std::uint8_t* weights, std::int32_t first,
                                          const std::int32_t* bias, std::int32_t* sums, std::int64_t sums_of_pixel) {
  using V = typename Dot::V;
  DotSums<Dot, P> acc;
  const AnyWindows<typename Dot::Staged, P> any{windows};
  add_dots<Dot, P>(task, any, staged_row, weights, first, bias, acc);
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    V::store32(sums + p * sums_of_pixel, Dot::result(acc[p][0], dot_start<V>(task, first, bias, 0)));
    V::store32(sums + p * sums_of_pixel + V::kLanes32,
               Dot::result(acc[p][1], dot_start<V>(task, first, bias, V::kLanes32)));
  });
}

// Whether sums can be finished in registers: two vectors of them, not in parts, are kChannelAlign outputs.
template <class Dot>
constexpr bool finishes_dots() {
  if constexpr (Dot::kAddsRuns || !kSumsAreGroups<typename Dot::V>)
    return false;
  else
    return Dot::kHasWholeSums;
}

// The same of P pixels from `pixel`, finished in registers.
template <class Dot, int P, class HowTo>
__attribute__((noinline)) void dot_finished(const ConvTask& task, const typename Dot::Staged* window,
                                            std::int64_t staged_row, const std::uint8_t* weights,
                                            const std::int32_t* bias, std::int32_t first, std::int64_t pixel) {
  DotSums<Dot, P> acc;
  const EvenWindows<typename Dot::Staged> windows{window,
                                                  std::int64_t{task.shape->stride_w} * task.shape->input.stride};
  add_dots<Dot, P>(task, windows, staged_row, weights, first, bias, acc);
  finish_in_registers<typename Dot::V, P>(HowTo{}, task, pixel, first, acc);
}

// The same by sums that whole runs are added to.
template <class Dot, int P>
__attribute__((noinline)) void run_pixels(const ConvTask& task, const std::uint8_t* const* windows,
                                          std::int64_t staged_row, const std::uint8_t* weights, std::int32_t first,
                                          const std::int32_t* bias, std::int32_t* sums, std::int64_t sums_of_pixel) {
  using V = typename Dot::V;
  const ConvShape& s = *task.shape;
  const DotPacked& packed = task.packed->as<DotPacked>();
  const std::int32_t* correction = packed.correction + first;
  typename Dot::template Sums<P> acc(
      [&](std::int32_t i) NYBBLE_LAMBDA { return V::add32(V::load32(correction + i), V::load32(bias + i)); });
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < packed.runs_per_row; ++c) {
      const std::uint8_t* inputs[P];
      const std::int64_t start = r * staged_row + std::int64_t{c} * s.dilation_w * s.input.stride;
      for_each_index<P>([&](auto p) NYBBLE_LAMBDA { inputs[p] = windows[p] + start; });
      acc.add_run(inputs, weights, packed.run_groups);
    }
  acc.store(sums, sums_of_pixel);
}

// Calls function(std::integral_constant<int, P>{}) with the least P that is not less than `count` and a multiple of
// kStep.
template <int kStep, int kMost, class F>
NYBBLE_INLINE void with_pixels(std::int32_t count, const F& function) {
  if constexpr (kMost > kStep)
    if (count <= kMost - kStep) return with_pixels<kStep, kMost - kStep>(count, function);
  function(std::integral_constant<int, kMost>{});
}

// The same of up to kDotPixels pixels.
template <class Dot, class... Args>
NYBBLE_INLINE void dot_any_pixels(std::int32_t count, const ConvTask& task, Args... args) {
  constexpr std::int32_t kPixels = Dot::V::kDotPixels;
  if constexpr (Dot::kAddsRuns)
    with_pixels<Dot::kPixelStep, kPixels>(count, [&](auto p) NYBBLE_LAMBDA { run_pixels<Dot, p>(task, args...); });
  else if (count > kPixels / 2)
    dot_pixels<Dot, kPixels>(task, args...);
  else if (count > 1)
    dot_pixels<Dot, kPixels / 2>(task, args...);
  else
    dot_pixels<Dot, 1>(task, args...);
}

// Whether windows can be read where the input lies: no padding, no other type, whole groups.
template <class Dot>
bool is_in_place(const ConvTask& task) {
  const ConvShape& s = *task.shape;
  return Dot::kGroup >= 4 && s.pointwise() && task.packed->as<DotPacked>().offset == 0 &&
         s.input.stride % Dot::kGroup == 0;
}

// The task's pixels lie in one output row, or the convolution is pointwise.
template <class Dot>
void conv_dot(const ConvTask& task) {
  using V = typename Dot::V;
  using Staged = typename Dot::Staged;
  constexpr std::int32_t kStep = Dot::kVectors * V::kLanes32, kPixels = V::kDotPixels;
  static_assert(kPixels <= kMostDotPixels);
  const ConvShape& s = *task.shape;
  const DotPacked& packed = task.packed->as<DotPacked>();
  const Epilogue& e = *task.epilogue;
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::int64_t staged_row = staged_row_elements(s, task.pixels);
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  const Staged* staged = static_cast<const Staged*>(task.input) + task.first_pixel * s.input.stride;
  if (!is_in_place<Dot>(task)) {
    Staged* rows = reinterpret_cast<Staged*>(sums + kMostDotPixels * block.outputs);
    if (s.input.element == Element::u8)
      stage_rows<std::uint8_t>(task, staged_row, packed.offset, rows);
    else
      stage_rows<std::int8_t>(task, staged_row, packed.offset, rows);
    staged = rows;
  }
  const std::int64_t step_bytes =
      std::int64_t{s.kernel_h} * packed.runs_per_row * packed.run_groups * Dot::kGroup * kStep;

  if constexpr (Dot::kGroup == 4 && kFewGroups<V> > 0)
    if (is_few<V>(task)) return run_few<Dot>(task, staged, staged_row);
  const std::int32_t most = pixel_group<V, kPixels>(task.pixels);
  for (std::int32_t p = 0; p < task.pixels; p += most) {
    const std::int32_t count = task.pixels - p < most ? task.pixels - p : most;
    const Staged* windows[kPixels];
    // A ragged end repeats its first pixel and drops the result.
    for (std::int32_t i = 0; i < kPixels; ++i)
      windows[i] = staged + std::int64_t{p + (i < count ? i : 0)} * s.stride_w * s.input.stride;
    for (std::int32_t i = 0; i < count; ++i)
      prefetch_finish(e, s.output, task.first_pixel + p + i, block.first, block.outputs, task.shortcut, task.output);
    const std::uint8_t* weights = task.packed->weights + block.offset;
    const std::int64_t pixel = task.first_pixel + p;
    if constexpr (kFinishesWords<V>) {
      for (std::int32_t first = block.first; first < block.first + block.outputs; first += kChannelAlign) {
        const TileFinish<V> finish(e, first);
        if constexpr (finishes_dots<Dot>())
          if (finish.template in_registers<kPixels>(count, [&](auto pixels, auto how_to) NYBBLE_LAMBDA {
                dot_finished<Dot, pixels, decltype(how_to)>(task, windows[0], staged_row, weights, finish.bias, first,
                                                            pixel);
              })) {
            weights += step_bytes;
            continue;
          }
        for (std::int32_t k = 0; k < kChannelAlign; k += kStep, weights += step_bytes)
          dot_any_pixels<Dot>(count, task, windows, staged_row, weights, first + k, finish.bias + k, sums + k,
                              std::int64_t{kChannelAlign});
        finish(s.output, pixel, count, first, task.shortcut, task.output, sums);
      }
    } else {
      for (std::int32_t k = 0; k < block.outputs; k += kStep, weights += step_bytes)
        dot_any_pixels<Dot>(count, task, windows, staged_row, weights, block.first + k, kNoBias, sums + k,
                            std::int64_t{block.outputs});
      for (std::int32_t i = 0; i < count; ++i)
        finish_pixel<V>(e, s.output, pixel + i, block.first, block.outputs, task.shortcut, task.output,
                        sums + i * block.outputs);
    }
  }
}

void conv_wide(const ConvTask& task) { conv_dot<WideDot<Vector>>(task); }
void conv_quad(const ConvTask& task) { conv_dot<decltype(quad_dot<Vector>())>(task); }
constexpr ConvRow kWideRow = {
    .name = "wide",
    .summary = "any types, two inputs at a time, 32-bit sums",
    .isa = kIsa,
    .tasks = Tasks::row_unless_pointwise,
    .usual_outputs = 64,
    .lanes32 = Vector::kLanes32,
    .finishes_words = kFinishesWords<Vector>,
    .pack = pack_wide,
    .scratch = dot_scratch,
    .run = conv_wide,
};

// Where two products of unsigned bytes are added in 16 bits, 2 * 127 * 128 fits them. Elsewhere an offset gives inputs
// the sign that products ask for.
constexpr bool kTakesAnyQuads = Vector::kHasDotProducts || Vector::kHasSplitQuads;

constexpr ConvRow kQuadRow = {
    .name = "quad",
    .summary = "four inputs at a time, 32-bit sums",
    .isa = kIsa,
    .takes_signed = kTakesAnyQuads,
    .most_input = kTakesAnyQuads ? 255 : 127,
    .has_dot_products = Vector::kHasDotProducts,
    .has_signed_quads = Vector::kHasSignedQuads,
    .tasks = Tasks::row_unless_pointwise,
    .usual_outputs = 128,
    .usual_pixels = Vector::kHasLaneQuads ? 60 : 64,  // a multiple of those computed together
    .lanes32 = Vector::kLanes32,
    .dot_vectors = decltype(quad_dot<Vector>())::kVectors,
    .dot_group = decltype(quad_dot<Vector>())::kGroup,
    .finishes_words = kFinishesWords<Vector>,
    .pack = pack_quad,
    .scratch = dot_scratch,
    .run = conv_quad,
};

}  // namespace
}  // namespace nybble

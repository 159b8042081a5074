// Windows of few inputs, those of pointwise layers and of 3x3 layers of three channels: the weights of kChannelAlign
// outputs stay in registers while all pixels of a task pass, and sums are finished where they are. Elsewhere what there
// is to do around the products costs such a layer more than they do. Included by dot.inc.h.
#pragma once

#include "kernels/conv/dot.h"
#include "kernels/conv/tile.inc.h"

namespace nybble {
namespace {

// Groups of inputs whose weights, two vectors each, leave registers for sums and the epilogue.
template <class V>
inline constexpr std::int32_t kFewGroups = kSumsAreGroups<V> && V::kHasDotProducts ? 10 : 0;

// All pixels of the task, and kChannelAlign outputs from `first`, finished as HowTo says. Windows have R rows of G
// groups, which begin at `inputs` and are `row` apart.
template <class Dot, class HowTo, int R, int G>
__attribute__((noinline)) void few_pixels(const ConvTask& task, const std::uint8_t* inputs, std::int64_t row,
                                          const std::uint8_t* weights, const std::int32_t* bias, std::int32_t first) {
  using V = typename Dot::V;
  const std::int32_t* correction = task.packed->as<DotPacked>().correction + first;
  typename V::Bytes of_group[R * G][2];
  for_each_index<2 * R * G>([&](auto i) NYBBLE_LAMBDA { of_group[i / 2][i % 2] = V::load(weights + i * V::kBytes); });
  const std::uint8_t* windows[R];
  for_each_index<R>([&](auto r) NYBBLE_LAMBDA { windows[r] = inputs + r * row; });
  const std::int64_t step = std::int64_t{task.shape->stride_w} * task.shape->input.stride;
  typename V::I32 start[2];
  for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
    start[i] = V::add32(V::load32(correction + i * V::kLanes32), V::load32(bias + i * V::kLanes32));
  });
  // A copy, which no store of a byte could change in the compiler's eyes.
  const Epilogue e = *task.epilogue;
  const Layout& output = task.shape->output;
  std::int64_t base = task.first_pixel * output.stride + first;
  for (std::int32_t p = 0; p < task.pixels; ++p, base += output.stride) {
    typename V::I32 sums[2] = {start[0], start[1]};
    for_each_index<R * G>([&](auto g) NYBBLE_LAMBDA {
      const auto input = V::broadcast4(windows[g / G] + 4 * (g % G));
      sums[0] = V::add_quads(sums[0], input, of_group[g][0]);
      sums[1] = V::add_quads(sums[1], input, of_group[g][1]);
    });
    for_each_index<R>([&](auto r) NYBBLE_LAMBDA { windows[r] += step; });
    finish_two<V>(HowTo{}, Finish{e, output, task.first_pixel + p, base, first, task.shortcut, task.output}, sums);
  }
}

// Whether the layer is one of these, and registers finish it throughout.
template <class V>
bool is_few(const ConvTask& task) {
  const Epilogue& e = *task.epilogue;
  const DotPacked& packed = task.packed->as<DotPacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  if (kFewGroups<V> == 0 || e.shortcut) return false;
  const std::int32_t groups = packed.run_groups;
  const bool is_few = groups <= kFewGroups<V> && groups % 2 == 0 && groups >= 4;
  const bool is_window = task.shape->kernel_h == 3 && packed.runs_per_row == 1 && groups == 3;
  if (!is_window && !(task.shape->pointwise() && is_few)) return false;
  for (std::int32_t first = block.first; first < block.first + block.outputs; first += kChannelAlign)
    if (!TileFinish<V>(e, first).with_plain_epilogue([](auto) NYBBLE_LAMBDA {})) return false;
  return true;
}

template <class Dot, int R, int G>
void few_outputs(const ConvTask& task, const std::uint8_t* inputs, std::int64_t row) {
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::uint8_t* weights = task.packed->weights + block.offset;
  for (std::int32_t k = 0; k < block.outputs; k += kChannelAlign, weights += R * G * 4 * kChannelAlign) {
    const TileFinish<typename Dot::V> finish(*task.epilogue, block.first + k);
    finish.with_plain_epilogue([&](auto how_to) NYBBLE_LAMBDA {
      few_pixels<Dot, decltype(how_to), R, G>(task, inputs, row, weights, finish.bias, block.first + k);
    });
  }
}

// `inputs` are the task's first window, as they are multiplied; its rows are `row` apart.
template <class Dot>
void run_few(const ConvTask& task, const std::uint8_t* inputs, std::int64_t row) {
  switch (task.packed->as<DotPacked>().run_groups) {
    case 3:
      return few_outputs<Dot, 3, 3>(task, inputs, row);
    case 4:
      return few_outputs<Dot, 1, 4>(task, inputs, row);
    case 6:
      return few_outputs<Dot, 1, 6>(task, inputs, row);
    case 8:
      return few_outputs<Dot, 1, 8>(task, inputs, row);
    default:
      return few_outputs<Dot, 1, 10>(task, inputs, row);
  }
}

}  // namespace
}  // namespace nybble

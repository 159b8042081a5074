// Pointwise layers of few inputs: the weights of kChannelAlign outputs stay in registers while all pixels of a task
// pass, and sums are finished where they are. Elsewhere sums go through memory, which costs such a layer more than its
// products do. Included by dot.inc.h.
#pragma once

#include <algorithm>

#include "kernels/conv/dot.h"
#include "kernels/conv/tile.inc.h"

namespace nybble {
namespace {

// Groups of inputs whose weights, two vectors each, leave registers for sums and the epilogue.
template <class V>
inline constexpr std::int32_t kFewGroups = kSumsAreGroups<V> && V::kHasDotProducts ? 10 : 0;

// All pixels of the task, and kChannelAlign outputs from `first`, whose words suit the epilogue.
template <class Dot, Words kWords, int G>
__attribute__((noinline)) void few_pixels(const ConvTask& task, const std::uint8_t* inputs, const std::uint8_t* weights,
                                          std::int32_t first) {
  using V = typename Dot::V;
  const Layout& output = task.shape->output;
  const std::int32_t* correction = task.packed->as<DotPacked>().correction + first;
  // A copy, which no store of a byte could change in the compiler's eyes.
  const Epilogue e = *task.epilogue;
  typename V::Bytes rows[G][2];
  for_each_index<2 * G>([&](auto i) NYBBLE_LAMBDA { rows[i / 2][i % 2] = V::load(weights + i * V::kBytes); });
  typename V::I32 start[2];
  for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
    start[i] = V::add32(V::load32(correction + i * V::kLanes32), V::load32(e.bias + first + i * V::kLanes32));
  });
  std::int64_t base = task.first_pixel * output.stride + first;
  for (std::int32_t p = 0; p < task.pixels; ++p, inputs += task.shape->input.stride, base += output.stride) {
    typename V::I32 sums[2] = {start[0], start[1]};
    for_each_index<G>([&](auto g) NYBBLE_LAMBDA {
      const auto input = V::broadcast4(inputs + 4 * g);
      sums[0] = V::add_quads(sums[0], input, rows[g][0]);
      sums[1] = V::add_quads(sums[1], input, rows[g][1]);
    });
    const auto words = V::join32_saturated(sums[0], sums[1]);
    finish_words<V, kWords, true>(Finish{e, output, task.first_pixel + p, base, first, task.shortcut, task.output},
                                  &words, 0);
  }
}

template <class Dot, int G>
void few_words(const ConvTask& task, const std::uint8_t* inputs, const std::uint8_t* weights, std::int32_t first) {
  with_words(*task.epilogue, [&](auto words) NYBBLE_LAMBDA {
    few_pixels<Dot, decltype(words)::value, G>(task, inputs, weights, first);
  });
}

// Whether the layer is one of these, and its words suit the epilogue throughout.
template <class V>
bool is_few(const ConvTask& task) {
  const Epilogue& e = *task.epilogue;
  const DotPacked& packed = task.packed->as<DotPacked>();
  const OutputBlock& block = task.packed->blocks[task.block];
  if (kFewGroups<V> == 0 || !task.shape->pointwise() || e.shortcut || e.words == nullptr) return false;
  if (packed.run_groups > kFewGroups<V> || packed.run_groups % 2 != 0 || packed.run_groups < 4) return false;
  const std::uint8_t* fits = e.words + block.first / kChannelAlign;
  return std::all_of(fits, fits + block.outputs / kChannelAlign, [](std::uint8_t word) { return word != 0; });
}

// `inputs` are the task's first pixel, as they are multiplied.
template <class Dot>
void run_few(const ConvTask& task, const std::uint8_t* inputs) {
  const OutputBlock& block = task.packed->blocks[task.block];
  const std::int32_t groups = task.packed->as<DotPacked>().run_groups;
  const std::uint8_t* weights = task.packed->weights + block.offset;
  const auto run = groups == 4   ? few_words<Dot, 4>
                   : groups == 6 ? few_words<Dot, 6>
                   : groups == 8 ? few_words<Dot, 8>
                                 : few_words<Dot, 10>;
  for (std::int32_t k = 0; k < block.outputs; k += kChannelAlign, weights += groups * 4 * kChannelAlign)
    run(task, inputs, weights, block.first + k);
}

}  // namespace
}  // namespace nybble

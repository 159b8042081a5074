// The plain convolution: every type, shape and group count. Included by one file per
// instruction set, after its `kIsa`, and vectorised there by the compiler.
// Weights are bytes, [kernel row][kernel column][input of the group][output], outputs padded to the stride.
#pragma once

#include "kernels/conv/direct.h"

namespace nybble {
namespace {

template <typename In>
void direct_pixel(const ConvTask& task, const OutputBlock& block, std::int64_t pixel, std::int32_t* __restrict sums) {
  const ConvShape& s = *task.shape;
  const std::int64_t image = pixel / s.output.pixels();
  const std::int64_t within = pixel % s.output.pixels();
  const std::int32_t top = static_cast<std::int32_t>(within / s.output.width) * s.stride_h - s.pad_top;
  const std::int32_t left = static_cast<std::int32_t>(within % s.output.width) * s.stride_w - s.pad_left;
  const In* input = static_cast<const In*>(task.input) + image * s.input.image_elements();
  const std::int32_t inputs = s.group_inputs(), outputs = s.group_outputs();
  const std::int64_t row_stride = s.output.stride;
  for (std::int32_t k = 0; k < block.outputs; ++k) sums[k] = 0;

  for (std::int32_t r = 0; r < s.kernel_h; ++r) {
    const std::int32_t y = top + r * s.dilation_h;
    if (y < 0 || y >= s.input.height) continue;
    for (std::int32_t c = 0; c < s.kernel_w; ++c) {
      const std::int32_t x = left + c * s.dilation_w;
      if (x < 0 || x >= s.input.width) continue;
      const In* values = input + (std::int64_t{y} * s.input.width + x) * s.input.stride;
      const std::int8_t* weights = reinterpret_cast<const std::int8_t*>(task.packed->weights) +
                                   std::int64_t{r * s.kernel_w + c} * inputs * row_stride + block.first;
      if (s.groups == 1) {
        for (std::int32_t i = 0; i < inputs; ++i) {
          const std::int32_t value = values[i];
          if (value == 0) continue;
          const std::int8_t* __restrict row = weights + i * row_stride;
          for (std::int32_t k = 0; k < block.outputs; ++k) sums[k] += value * row[k];
        }
      } else if (inputs == 1 && outputs == 1) {
        for (std::int32_t k = 0; k < s.output.channels; ++k) sums[k] += std::int32_t{values[k]} * weights[k];
      } else {
        for (std::int32_t i = 0; i < inputs; ++i)
          for (std::int32_t g = 0; g < s.groups; ++g) {
            const std::int32_t value = values[g * inputs + i];
            const std::int8_t* row = weights + i * row_stride + g * outputs;
            for (std::int32_t k = 0; k < outputs; ++k) sums[g * outputs + k] += value * row[k];
          }
      }
    }
  }
}

void conv_direct(const ConvTask& task) {
  const OutputBlock& block = task.packed->blocks[task.block];
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(task.scratch);
  for (std::int32_t p = 0; p < task.pixels; ++p) {
    const std::int64_t pixel = task.first_pixel + p;
    if (task.shape->input.element == Element::u8)
      direct_pixel<std::uint8_t>(task, block, pixel, sums);
    else
      direct_pixel<std::int8_t>(task, block, pixel, sums);
    finish_exact(*task.epilogue, task.shape->output, sums, pixel, block.first, block.outputs, task.shortcut,
                 task.output);
  }
}
constexpr ConvRow kDirectRow = {
    .name = "direct",
    .summary = "any types and groups",
    .isa = kIsa,
    .takes_groups = true,
    .is_staged = false,
    .pack = pack_direct,
    .scratch = direct_scratch,
    .run = conv_direct,
};

}  // namespace
}  // namespace nybble

// Copying input rows for the kernels with 32-bit sums. Included by one file per instruction set.
#pragma once

#include "kernels/conv/stage.h"

namespace nybble {
namespace {

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

}  // namespace
}  // namespace nybble

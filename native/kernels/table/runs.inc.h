// The runs of bytes that a task of a table of codes is. Included by the files of instruction sets with vectors.
#pragma once

#include "kernels/table/kernels.h"

namespace nybble {
namespace {

// Calls run(input, output, units) for the runs of bytes that a task is.
template <class Run>
NYBBLE_INLINE void table_pixels(const TableTask& task, const Run& run) {
  const bool has_padding = task.kept < task.width;
  const bool is_one_run = !has_padding && task.input_stride == task.width && task.output_stride == task.width;
  const std::int64_t runs = is_one_run ? 1 : task.pixels, pixels = is_one_run ? task.pixels : 1;
  const std::int64_t units = pixels * (task.width / kChannelAlign);
  for (std::int64_t i = 0; i < runs; ++i) {
    std::uint8_t* out = task.output + i * task.output_stride;
    run(task.input + i * task.input_stride, out, units);
    if (has_padding) __builtin_memset(out + task.kept, 0, static_cast<std::size_t>(task.width - task.kept));
  }
}

}  // namespace
}  // namespace nybble

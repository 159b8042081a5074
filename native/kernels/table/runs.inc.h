// The runs of bytes that a task of a table of codes is. Included by the files of instruction sets with vectors.
#pragma once

#include "kernels/table/kernels.h"

namespace nybble {
namespace {

// kChannelAlign bytes of which the first `kept` are 255, the others 0.
NYBBLE_INLINE const std::uint8_t* table_mask(std::int32_t kept) {
  static_assert(kChannelAlign == 32);
  alignas(64) static constexpr std::uint8_t kMask[2 * kChannelAlign] = {
      255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
      255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
  return kMask + kChannelAlign - kept;
}

// Calls run(input, output, units, mask) for the runs of bytes that a task is; every unit of the results, kChannelAlign
// bytes, is and-ed with the mask.
template <class Run>
NYBBLE_INLINE void table_pixels(const TableTask& task, const Run& run) {
  const std::int64_t units = task.width / kChannelAlign, full = task.kept / kChannelAlign;
  const bool is_dense = task.input_stride == task.width && task.output_stride == task.width;
  if (is_dense && (units == 1 || full == units)) {
    run(task.input, task.output, task.pixels * units, table_mask(units == 1 ? task.kept : kChannelAlign));
    return;
  }
  for (std::int64_t i = 0; i < task.pixels; ++i) {
    const std::uint8_t* in = task.input + i * task.input_stride;
    std::uint8_t* out = task.output + i * task.output_stride;
    run(in, out, full, table_mask(kChannelAlign));
    for (std::int64_t u = full; u < units; ++u)
      run(in + u * kChannelAlign, out + u * kChannelAlign, 1, table_mask(u == full ? task.kept % kChannelAlign : 0));
  }
}

}  // namespace
}  // namespace nybble

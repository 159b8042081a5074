// Tables of codes in NEON: an instruction looks up 64 entries, and beyond them leaves a result as it is (tbx) or makes
// it 0 (tbl). Included by the files of instruction sets.
#pragma once

#include <arm_neon.h>

#include "kernels/table/kernels.h"
#include "kernels/table/runs.inc.h"

namespace nybble {
namespace {

// Bits of a code that are no part of its index are ignored.
template <int kEntries>
NYBBLE_INLINE void table_run(const CodeTable& table, const std::uint8_t* in, std::uint8_t* out, std::int64_t units,
                             const std::uint8_t* kept) {
  constexpr int kParts = kEntries == 16 ? 1 : kEntries / 64;
  const uint8x16_t step = vdupq_n_u8(64), mask = vdupq_n_u8(kEntries - 1);
  uint8x16x4_t parts[kParts];
  for_each_index<kParts>([&](auto k) NYBBLE_LAMBDA { parts[k] = vld1q_u8_x4(table.results + 64 * k); });
  for (const std::uint8_t* const stop = in + units * kChannelAlign; in != stop; in += 16, out += 16) {
    uint8x16_t index = vandq_u8(vld1q_u8(in), mask);
    uint8x16_t results;
    if constexpr (kEntries == 16)
      results = vqtbl1q_u8(parts[0].val[0], index);
    else
      results = vqtbl4q_u8(parts[0], index);
    for_each_index<kParts - 1>([&](auto k) NYBBLE_LAMBDA {
      index = vsubq_u8(index, step);
      results = vqtbx4q_u8(results, parts[k + 1], index);
    });
    vst1q_u8(out, vandq_u8(results, vld1q_u8(kept + (stop - in) % kChannelAlign)));
  }
}

template <int kEntries>
void table_lookups(const TableTask& task) {
  table_pixels(task, [&](const std::uint8_t* in, std::uint8_t* out, std::int64_t units, const std::uint8_t* kept)
                         NYBBLE_LAMBDA { table_run<kEntries>(*task.table, in, out, units, kept); });
}

void table_neon(const TableTask& task) {
  if (task.table->entries == 16)
    table_lookups<16>(task);
  else if (task.table->entries == 128)
    table_lookups<128>(task);
  else
    table_lookups<256>(task);
}

constexpr TableKernels kTableKernels = {table_neon};

}  // namespace
}  // namespace nybble

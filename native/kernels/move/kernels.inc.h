// Moves of single channels by shuffles of 16 bytes. Included by one file per instruction set, after its vector types.
#pragma once

#include "kernels/move/kernels.h"

namespace nybble {
namespace {

template <class B>
NYBBLE_INLINE void move_pixel(const MoveMap& map, const std::uint8_t* in, std::uint8_t* out) {
  constexpr int kVectors = kChannelAlign / B::kBytes;
  const MovePart* part = map.parts;
  for (std::int32_t b = 0; b < map.blocks; ++b, out += kChannelAlign) {
    typename B::Bytes bytes[kVectors];
    for (auto& each : bytes) each = B::set8(0);
    for (const MovePart* const end = map.parts + map.ends[b]; part != end; ++part) {
      const auto source = B::load_part(in + part->from);
      NYBBLE_UNROLL
      for (int v = 0; v < kVectors; ++v) bytes[v] = B::or8(bytes[v], B::shuffle(source, part->picks + v * B::kBytes));
    }
    NYBBLE_UNROLL
    for (int v = 0; v < kVectors; ++v) B::store(out + v * B::kBytes, bytes[v]);
  }
}

void move_row(const MoveTask& task) {
  std::uint8_t* out = task.out;
  for (std::int32_t x = 0; x < task.width; ++x, out += task.out_pixel) {
    if (task.columns[x] < 0)
      __builtin_memset(out, 0, static_cast<std::size_t>(task.out_pixel));
    else
      move_pixel<Staging>(task.maps[task.column_maps[x]], task.in + task.columns[x] * task.in_pixel, out);
  }
}

constexpr MoveKernels kMoveKernels = {move_row};

}  // namespace
}  // namespace nybble

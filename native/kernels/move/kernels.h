// Moves of single channels within pixels, in bytes.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "base/tensor.h"

namespace nybble {

// Bytes that 16 bytes of an input pixel, from byte `from`, have for kChannelAlign bytes of the result: byte i is number
// picks[i] of them, and zero where picks[i] is 128.
struct MovePart {
  std::int32_t from;
  alignas(32) std::uint8_t picks[kChannelAlign];
};

// Where the bytes of a pixel come from: block b of kChannelAlign bytes is made of the parts before ends[b] and from the
// end of the block before on; each byte comes from one part at most.
struct MoveMap {
  const MovePart* parts;
  const std::int32_t* ends;
  std::int32_t blocks;
};

// A row of pixels.
struct MoveTask {
  const MoveMap* maps;
  const int* columns;  // by pixel of the result: that of the input, or -1 for zeros
  const int* column_maps;
  const std::uint8_t* in;
  std::uint8_t* out;
  std::int64_t in_pixel, out_pixel;  // bytes, multiples of 16 and of kChannelAlign
  std::int32_t width;
};

using MoveKernel = void (*)(const MoveTask& task);

// Null where an instruction set has none: channels are then copied one by one.
struct MoveKernels {
  MoveKernel run;
};

const MoveKernels& move_kernels(Isa isa);

}  // namespace nybble

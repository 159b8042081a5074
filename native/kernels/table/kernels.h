// A function of one code, as a table of its results.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "base/tensor.h"

namespace nybble {

// Results by stored byte. Signed codes are stored as two's complement, so that the low bits of a byte are an index for
// every type; bits above these are ignored.
struct CodeTable {
  std::int32_t entries = 256;  // 16, 128 or 256
  alignas(64) std::uint8_t results[256] = {};
  // For kernels that pick one of 16 bytes at a time. parts[0] and parts[8] are results 0 to 15 and 128 to 143; the
  // others are the exclusive or of 16 results and the 16 before them.
  alignas(64) std::uint8_t parts[16][16] = {};
};

// Pixels of channels-last bytes. Input and output may be the same memory.
struct TableTask {
  const CodeTable* table;
  const std::uint8_t* input;
  std::uint8_t* output;
  std::int64_t input_stride, output_stride;  // bytes from pixel to pixel
  std::int64_t pixels;
  std::int32_t width;  // bytes of a pixel to write
  std::int32_t kept;   // of these, the first ones are channels; the rest is padding and becomes 0
};

// Any processor, any strides and widths: the definition for the kernels.
void table_exact(const TableTask& task);

using TableKernel = void (*)(const TableTask& task);

struct TableKernels {
  // Input and output pixels have room for `width` bytes, a multiple of kChannelAlign.
  TableKernel run;
};

const TableKernels& table_kernels(Isa isa);

}  // namespace nybble

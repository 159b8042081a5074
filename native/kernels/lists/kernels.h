// Lists of the non-zero channel groups of each pixel.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "base/tensor.h"

namespace nybble {

// Of pixels [first, first + count). `stride` is the input's.
using ListKernel = void (*)(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                            const NonZeroLists& lists);

// Null where no convolution kernel of the instruction set reads lists.
struct ListsKernels {
  ListKernel pairs, quads, singles = nullptr;
};

const ListsKernels& lists_kernels(Isa isa);

}  // namespace nybble

// The kernels of each instruction set.
#pragma once

#include <cstdint>

#include "core/cpu.h"
#include "core/tensor.h"
#include "kernels/conv/conv.h"

namespace nybble {

// A window of a pool over channels-last values.
struct PoolShape {
  Layout input;
  Layout output;
  std::int32_t kernel_h = 1, kernel_w = 1;
  std::int32_t stride_h = 1, stride_w = 1;
  std::int32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int32_t dilation_h = 1, dilation_w = 1;
  bool count_padding = true;
};

using ConvKernel = void (*)(const ConvTask& task);
// Lists of pixels [first, first + count).
// `stride` is the input's.
using ListKernel = void (*)(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                            const NonZeroLists& lists);
// One output row.
using PoolKernel = void (*)(const PoolShape& shape, const void* image, std::int32_t row, void* output_image);

// Null where the instruction set has no such kernel.
struct KernelTable {
  Isa isa = Isa::scalar;
  ConvKernel conv_direct = nullptr;       // any types and groups
  ConvKernel conv_sparse = nullptr;       // unsigned inputs, 16-bit sums over lists of non-zero pairs
  ConvKernel conv_sparse_quad = nullptr;  // inputs as conv_quad takes them but unsigned, lists of quads
  std::int32_t most_quad_outputs = 0;     // in a block of conv_sparse_quad: what registers hold
  ConvKernel conv_winograd = nullptr;     // what pack_winograd takes, 16-bit sums
  ConvKernel conv_wide = nullptr;         // any types
  ConvKernel conv_quad = nullptr;         // unsigned inputs of at most 127,
  bool quad_takes_any = false;            // or any type
  std::int32_t dot_outputs = 0;           // that these two compute together
  ConvKernel conv_chained = nullptr;      // any types
  ConvKernel conv_pair = nullptr;         // any padded inputs of which pairs fit 16 bits
  ConvKernel conv_grouped = nullptr;      // any types and groups, padded inputs
  ListKernel pair_lists = nullptr;
  ListKernel quad_lists = nullptr;
  PoolKernel max_pool = nullptr;
  PoolKernel average_pool = nullptr;
};

extern const KernelTable kScalarKernels;
#if defined(NYBBLE_X86)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512VnniKernels;
#endif

const KernelTable& kernels_of(Isa isa);

}  // namespace nybble

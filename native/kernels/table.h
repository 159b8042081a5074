// The kernels of each instruction set.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "base/tensor.h"
#include "kernels/conv/rows.h"
#include "kernels/mul/mul.h"
#include "kernels/pool/pool.h"
#include "kernels/table/table.h"

namespace nybble {

// Lists of pixels [first, first + count).
// `stride` is the input's.
using ListKernel = void (*)(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                            const NonZeroLists& lists);
// One output row.
using PoolKernel = void (*)(const PoolShape& shape, const void* image, std::int32_t row, void* output_image);
// Both: stored values are padded, and so are those of the inputs.
using TableKernel = void (*)(const TableTask& task);
using MulKernel = void (*)(const MulTask& task);

// Null where the instruction set has no such kernel.
struct KernelTable {
  Isa isa = Isa::scalar;
  const ConvRow* conv_rows = nullptr;
  int conv_count = 0;
  ListKernel pair_lists = nullptr;
  ListKernel quad_lists = nullptr;
  PoolKernel max_pool = nullptr;
  PoolKernel average_pool = nullptr;
  TableKernel table = nullptr;
  MulKernel mul = nullptr;
};

extern const KernelTable kScalarKernels;
#if defined(NYBBLE_VECTOR16)
extern const KernelTable kVector16Kernels;
#endif
#if defined(NYBBLE_X86)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512VnniKernels;
#endif

// Those of this build: an instruction set that it has no kernels for gets the portable ones.
const KernelTable& kernels_of(Isa isa);

// Instruction sets that this build has kernels for, whatever the machine has.
std::vector<Isa> built_isas();

// The convolution kernel of that name, or null.
const ConvRow* find_row(const KernelTable& kernels, std::string_view name);

}  // namespace nybble

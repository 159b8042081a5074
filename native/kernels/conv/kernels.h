// The rows of convolution kernels that an instruction set has.
#pragma once

#include <string_view>

#include "base/cpu.h"
#include "kernels/conv/rows.h"

namespace nybble {

struct ConvKernels {
  const ConvRow* rows;
  int count;

  NYBBLE_INLINE const ConvRow* begin() const { return rows; }
  NYBBLE_INLINE const ConvRow* end() const { return rows + count; }
};

// Of an instruction set that this build has no kernels for: the portable ones.
const ConvKernels& conv_kernels(Isa isa);

// The kernel of that name, or null.
const ConvRow* find_row(Isa isa, std::string_view name);

}  // namespace nybble

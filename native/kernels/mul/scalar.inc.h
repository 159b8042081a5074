// Any processor: the definition is the kernel.
#pragma once

#include "kernels/mul/kernels.h"

namespace nybble {
namespace {

constexpr MulKernels kMulKernels = {mul_exact};

}  // namespace
}  // namespace nybble

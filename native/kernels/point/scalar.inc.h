// Any processor: the definition is the kernel.
#pragma once

#include "kernels/point/kernels.h"

namespace nybble {
namespace {

constexpr PointKernels kPointKernels = {point_exact};

}  // namespace
}  // namespace nybble

// The convolution kernels of any processor.
#pragma once

#include "kernels/conv/direct.inc.h"
#include "kernels/conv/kernels.h"

namespace nybble {
namespace {

constexpr ConvRow kRows[] = {kDirectRow};

constexpr ConvKernels kConvKernels = {kRows, sizeof kRows / sizeof kRows[0]};

}  // namespace
}  // namespace nybble

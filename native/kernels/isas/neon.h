// The vector types of kernels for NEON.
#pragma once

#include "kernels/simd/neon.h"

namespace nybble {
namespace {

using Vector = Neon;
using Staging = NeonBytes;

}  // namespace
}  // namespace nybble

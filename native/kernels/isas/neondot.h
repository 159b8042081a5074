// The vector types of kernels for NEON with dot products.
#pragma once

#include "kernels/simd/neondot.h"

namespace nybble {
namespace {

using Vector = NeonDot;
using Staging = NeonBytes;

}  // namespace
}  // namespace nybble

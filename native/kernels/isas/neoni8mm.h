// The vector types of kernels for NEON with products of matrices.
#pragma once

#include "kernels/simd/neoni8mm.h"

namespace nybble {
namespace {

using Vector = NeonI8mm;
using Staging = NeonBytes;

}  // namespace
}  // namespace nybble

// The vector types of kernels for AVX2.
#pragma once

#include "kernels/simd/avx2.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

using Vector = Avx2;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

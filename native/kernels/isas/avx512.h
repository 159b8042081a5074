// The vector types of kernels for AVX-512.
#pragma once

#include "kernels/simd/avx512.h"
#include "kernels/simd/bytes32_avx512.h"

namespace nybble {
namespace {

using Vector = Avx512;
using Staging = Bytes32Avx512;

}  // namespace
}  // namespace nybble

// The vector types of kernels for AVX-512.
#pragma once

#include "kernels/simd/avx512.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

using Vector = Avx512;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

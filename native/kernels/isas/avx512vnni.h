// The vector types of kernels for AVX-512 with VNNI.
#pragma once

#include "kernels/simd/avx512vnni.h"
#include "kernels/simd/bytes32_avx512.h"

namespace nybble {
namespace {

using Vector = Avx512Vnni;
using Staging = Bytes32Avx512;

}  // namespace
}  // namespace nybble

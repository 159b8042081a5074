// The vector types of kernels for AVX-VNNI.
#pragma once

#include "kernels/simd/avxvnni.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

using Vector = AvxVnni;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

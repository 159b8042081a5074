// The vector types of kernels for AVX-VNNI, for tests on processors that have its instructions as AVX-512's only.
#pragma once

#include "kernels/simd/avxvnni.h"
#include "kernels/simd/bytes32.h"

namespace nybble {
namespace {

using Vector = AvxVnni;
using Staging = Bytes32;

}  // namespace
}  // namespace nybble

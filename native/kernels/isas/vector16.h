// The vector types of kernels for vectors of 16 bytes, for tests on any processor.
#pragma once

#include "kernels/simd/vector16.h"

namespace nybble {
namespace {

using Vector = Vector16;
using Staging = Bytes16;

}  // namespace
}  // namespace nybble

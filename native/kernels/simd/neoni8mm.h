// NEON with FEAT_I8MM: products of matrices of bytes, and dot products of unsigned bytes by signed ones.
#pragma once

#include "kernels/simd/neondot.h"

namespace nybble {

struct NeonI8mm : NeonDot {};

}  // namespace nybble

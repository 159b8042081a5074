// Any processor: the definitions are the kernels.
#pragma once

#include "kernels/pool/kernels.h"

namespace nybble {
namespace {

constexpr PoolKernels kPoolKernels = {max_pool_exact, average_pool_exact};

}  // namespace
}  // namespace nybble

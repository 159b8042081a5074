// Any processor: the definition is the kernel.
#pragma once

#include "kernels/table/kernels.h"

namespace nybble {
namespace {

constexpr TableKernels kTableKernels = {table_exact};

}  // namespace
}  // namespace nybble

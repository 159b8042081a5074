// The portable convolution kernels read no lists.
#pragma once

#include "kernels/lists/kernels.h"

namespace nybble {
namespace {

constexpr ListsKernels kListsKernels = {nullptr, nullptr};

}  // namespace
}  // namespace nybble

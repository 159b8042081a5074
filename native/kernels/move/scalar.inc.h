// Any processor: the step copies channels one by one.
#pragma once

#include "kernels/move/kernels.h"

namespace nybble {
namespace {

constexpr MoveKernels kMoveKernels = {nullptr};

}  // namespace
}  // namespace nybble

// Tables of codes for an instruction set with vectors. Included by one file per instruction set, after its vector
// types.
#pragma once

#include "kernels/table/shuffles.inc.h"

namespace nybble {
namespace {

constexpr TableKernels kTableKernels = {table_shuffles};

}  // namespace
}  // namespace nybble

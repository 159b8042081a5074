// Portable kernels: any processor.
#include "kernels/table.h"

namespace nybble {
namespace {

#include "kernels/conv/direct.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kScalarKernels = {Isa::scalar, conv_direct, nullptr, nullptr, nullptr, max_pool, average_pool};

}  // namespace nybble

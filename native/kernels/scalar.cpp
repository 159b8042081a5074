// Portable kernels: any processor.
#include "kernels/table.h"

namespace nybble {
namespace {

#include "kernels/conv/direct.inc.h"
#include "kernels/pool/pool.inc.h"

}  // namespace

const KernelTable kScalarKernels = {
    .isa = Isa::scalar,
    .conv_direct = conv_direct,
    .max_pool = max_pool,
    .average_pool = average_pool,
};

}  // namespace nybble

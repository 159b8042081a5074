// Portable kernels: any processor.
#include "base/cpu.h"

namespace nybble {
namespace {

constexpr Isa kIsa = Isa::scalar;

}  // namespace
}  // namespace nybble

#include "kernels/conv/direct.inc.h"
#include "kernels/pool/pool.inc.h"
#include "kernels/table.h"

namespace nybble {
namespace {

constexpr ConvRow kRows[] = {kDirectRow};

}  // namespace

constinit const KernelTable kScalarKernels = {
    .isa = kIsa,
    .conv_rows = kRows,
    .conv_count = 1,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .table = table_exact,
    .mul = mul_exact,
};

}  // namespace nybble

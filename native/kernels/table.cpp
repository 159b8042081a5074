#include "kernels/table.h"

namespace nybble {
namespace {

// A new instruction set is a line here.
const KernelTable* const kTables[] = {
    &kScalarKernels,
#if defined(NYBBLE_VECTOR16)
    &kVector16Kernels,
#endif
#if defined(NYBBLE_X86)
    &kAvx2Kernels,     &kAvx512Kernels, &kAvx512VnniKernels,
#endif
};

}  // namespace

const KernelTable& kernels_of(Isa isa) {
  for (const KernelTable* table : kTables)
    if (table->isa == isa) return *table;
  return kScalarKernels;
}

std::vector<Isa> built_isas() {
  std::vector<Isa> isas;
  for (const KernelTable* table : kTables) isas.push_back(table->isa);
  return isas;
}

const ConvRow* find_row(const KernelTable& kernels, std::string_view name) {
  for (int i = 0; i < kernels.conv_count; ++i)
    if (name == kernels.conv_rows[i].name) return &kernels.conv_rows[i];
  return nullptr;
}

}  // namespace nybble

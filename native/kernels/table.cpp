#include "kernels/table.h"

namespace nybble {

const KernelTable& kernels_of(Isa isa) {
#if defined(NYBBLE_X86)
  if (isa == Isa::avx512vnni) return kAvx512VnniKernels;
  if (isa == Isa::avx512) return kAvx512Kernels;
  if (isa == Isa::avx2) return kAvx2Kernels;
#else
  (void)isa;
#endif
  return kScalarKernels;
}

}  // namespace nybble

// The ceilings of each instruction set; a file of loops fills each.
#pragma once

#include <cstddef>

#include "ceilings/ceilings.h"

namespace nybble {

// Constants, so that nothing runs when the module is loaded.
struct CeilingTable {
  const Ceiling* entries;
  std::size_t count;
};

#if defined(NYBBLE_X86) && !defined(NYBBLE_EMULATED)
extern const CeilingTable kAvx2Ceilings;
extern const CeilingTable kAvx512Ceilings;
extern const CeilingTable kAvx512VnniCeilings;
#endif

}  // namespace nybble

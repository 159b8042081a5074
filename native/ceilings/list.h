// The ceilings of each instruction set; a file of loops fills each.
#pragma once

#include <nybble_ceilings.h>

#include <cstddef>

#include "ceilings/ceilings.h"

namespace nybble {

// Constants, so that nothing runs when the module is loaded.
struct CeilingTable {
  const Ceiling* entries;
  std::size_t count;
};

// One for each file beside this one that is named after an instruction set of the build.
#define NYBBLE_CEILING(isa) extern const CeilingTable ceilings_##isa;
NYBBLE_CEILINGS(NYBBLE_CEILING)
#undef NYBBLE_CEILING

}  // namespace nybble

// The ceilings of each instruction set; a file of loops fills each.
#pragma once

#include <vector>

#include "ceilings/ceilings.h"

namespace nybble {

#ifdef NYBBLE_X86
void add_avx2_ceilings(std::vector<Ceiling>& list);
void add_avx512_ceilings(std::vector<Ceiling>& list);
void add_avx512vnni_ceilings(std::vector<Ceiling>& list);
#endif

}  // namespace nybble

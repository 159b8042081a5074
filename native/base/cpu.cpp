#include "base/cpu.h"

#include <stdexcept>

#include "base/cpuid.h"

#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace nybble {
namespace {

struct Known {
  Isa isa;
  const char* name;
  const char* like;
  const char* needs;
  bool is_for_tests;
  bool is_built;
  bool (*is_supported)();
};

// On x86, CPUID reports the features of the processor, XGETBV the registers that the system saves. On aarch64 getauxval
// reports both.
constexpr Known kAll[] = {
#define NYBBLE_ISA(name, like, needs, is_for_tests, is_built, is_supported) \
  {Isa::name, #name, like, needs, is_for_tests, is_built, [] { return is_built && (is_supported); }},
    NYBBLE_ISAS(NYBBLE_ISA)
#undef NYBBLE_ISA
};

const Known& known(Isa isa) {
  for (const Known& each : kAll)
    if (each.isa == isa) return each;
  return kAll[0];
}

}  // namespace

const char* isa_name(Isa isa) { return known(isa).name; }

const char* isa_like(Isa isa) { return known(isa).like; }

const char* isa_needs(Isa isa) { return known(isa).needs; }

bool is_for_tests(Isa isa) { return known(isa).is_for_tests; }

std::vector<Isa> all_isas() {
  std::vector<Isa> found;
  for (const Known& each : kAll) found.push_back(each.isa);
  return found;
}

std::vector<Isa> built_isas() {
  std::vector<Isa> found;
  for (const Known& each : kAll)
    if (each.is_built) found.push_back(each.isa);
  return found;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (const Known& each : kAll)
    if (each.is_supported() && !each.is_for_tests) found.push_back(each.isa);
  return found;
}

std::vector<Isa> runnable_isas() {
  std::vector<Isa> found;
  for (const Known& each : kAll)
    if (each.is_supported()) found.push_back(each.isa);
  return found;
}

Isa isa_from_name(const std::string& name) {
  for (const Known& each : kAll)
    if (name == each.name && each.is_supported()) return each.isa;
  std::string names;
  for (Isa isa : available_isas()) {
    names += names.empty() ? "" : ", ";
    names += isa_name(isa);
  }
  for (const Known& each : kAll)
    if (name == each.name)
      throw std::invalid_argument("instruction set '" + name +
                                  "' is not available on this machine; available: " + names);
  throw std::invalid_argument("unknown instruction set '" + name + "'; available: " + names);
}

Isa known_isa(const std::string& name) {
  for (const Known& each : kAll)
    if (name == each.name) return each.isa;
  throw std::invalid_argument("unknown instruction set '" + name + "'");
}

}  // namespace nybble

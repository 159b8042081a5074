#include "base/cpu.h"

#include <stdexcept>

namespace nybble {
namespace {

struct Known {
  Isa isa;
  const char* name;
  const char* needs;
};

// Slowest first.
constexpr Known kAll[] = {
    {Isa::scalar, "scalar", ""},
    {Isa::vector16, "vector16", ""},
    {Isa::avx2, "avx2", "avx2 fma"},
    {Isa::avx512, "avx512", "avx2 fma avx512f avx512bw avx512vl avx512dq"},
    {Isa::avx512vnni, "avx512vnni", "avx2 fma avx512f avx512bw avx512vl avx512dq avx512_vnni"},
};

const Known& known(Isa isa) {
  for (const Known& each : kAll)
    if (each.isa == isa) return each;
  return kAll[0];
}

bool supported(Isa isa) {
  switch (isa) {
    case Isa::scalar:
#if defined(NYBBLE_VECTOR16)
    case Isa::vector16:
#endif
      return true;
#if !defined(NYBBLE_VECTOR16)
    case Isa::vector16:
      return false;
#endif
#if defined(__x86_64__)
    // __builtin_cpu_supports reads cpuid and, for vector state, XGETBV: what the system saves too.
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::avx512:
      return supported(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case Isa::avx512vnni:
      return supported(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
#else
    default:
      return false;
#endif
  }
  return false;
}

}  // namespace

const char* isa_name(Isa isa) { return known(isa).name; }

const char* isa_needs(Isa isa) { return known(isa).needs; }

bool is_for_tests(Isa isa) { return isa == Isa::vector16; }

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (const Known& each : kAll)
    if (supported(each.isa) && !is_for_tests(each.isa)) found.push_back(each.isa);
  return found;
}

Isa isa_from_name(const std::string& name) {
  for (const Known& each : kAll)
    if (name == each.name && supported(each.isa)) return each.isa;
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

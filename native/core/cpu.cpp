#include "core/cpu.h"

#include <stdexcept>

namespace nybble {
namespace {

constexpr Isa kAll[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512vnni};

bool supported(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return true;
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

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512vnni:
      return "avx512vnni";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (Isa isa : kAll)
    if (supported(isa)) found.push_back(isa);
  return found;
}

Isa isa_from_name(const std::string& name) {
  std::string names;
  for (Isa isa : available_isas()) {
    if (name == isa_name(isa)) return isa;
    names += names.empty() ? "" : ", ";
    names += isa_name(isa);
  }
  for (Isa isa : kAll)
    if (name == isa_name(isa))
      throw std::invalid_argument("instruction set '" + name +
                                  "' is not available on this machine; available: " + names);
  throw std::invalid_argument("unknown instruction set '" + name + "'; available: " + names);
}

}  // namespace nybble

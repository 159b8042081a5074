// The only place that knows Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "core/cpu.h"

namespace nb = nanobind;

NB_MODULE(_native, m) {
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (nybble::Isa isa : nybble::available_isas()) names.emplace_back(nybble::isa_name(isa));
    return names;
  });
}

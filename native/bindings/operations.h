// Shared by the bindings of operations.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "core/program.h"

namespace nb = nanobind;

// bind_NAME of every operation: the specification of its step, and Program.add_NAME.
void bind_operations(nb::module_& m, nb::class_<nybble::Program>& program);

// Names of the operations that an instruction set has kernels for.
std::vector<std::string> operations_with_kernels(nybble::Isa isa);

// Whether a set of kernels, which is pointers to them, has any.
template <class Kernels>
bool has_kernels(const Kernels& kernels) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&kernels);
  return std::any_of(bytes, bytes + sizeof kernels, [](unsigned char byte) { return byte != 0; });
}

// The fields of nybble::EpilogueSpec.
template <class Spec>
void bind_epilogue(nb::class_<Spec>& spec) {
  spec.def_rw("relu", &Spec::relu)
      .def_rw("relu_maximum", &Spec::relu_maximum)
      .def_rw("requantize", &Spec::requantize)
      .def_rw("rule", &Spec::rule)
      .def_rw("negative", &Spec::negative)
      .def_rw("table", &Spec::table);
}

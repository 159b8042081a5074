#include "steps/prelu.h"

#include "bindings/operations.h"

void bind_prelu(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::PReluSpec>(m, "PReluSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::PReluSpec::input)
      .def_rw("output", &nybble::PReluSpec::output)
      .def_rw("rule", &nybble::PReluSpec::rule)
      .def_rw("negative", &nybble::PReluSpec::negative)
      .def_rw("output_lists", &nybble::PReluSpec::output_lists);
  program.def("add_prelu", &nybble::add_prelu);
}

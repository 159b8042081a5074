#include "steps/scale.h"

#include "bindings/operations.h"

void bind_scale(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::ScaleSpec>(m, "ScaleSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::ScaleSpec::input)
      .def_rw("output", &nybble::ScaleSpec::output)
      .def_rw("scale", &nybble::ScaleSpec::scale)
      .def_rw("input_requantize", &nybble::ScaleSpec::input_requantize)
      .def_rw("input_rule", &nybble::ScaleSpec::input_rule);
  program.def("add_scale", &nybble::add_scale);
}

#include "steps/point.h"

#include "bindings/operations.h"

void bind_point(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::PointSpec> spec(m, "PointSpec");
  spec.def(nb::init<>())
      .def_rw("input", &nybble::PointSpec::input)
      .def_rw("output", &nybble::PointSpec::output)
      .def_rw("other", &nybble::PointSpec::other)
      .def_rw("magnitude", &nybble::PointSpec::magnitude)
      .def_rw("input_requantize", &nybble::PointSpec::input_requantize)
      .def_rw("input_rule", &nybble::PointSpec::input_rule)
      .def_rw("shortcut_magnitude", &nybble::PointSpec::shortcut_magnitude)
      .def_rw("shortcut_requantize", &nybble::PointSpec::shortcut_requantize)
      .def_rw("shortcut_rule", &nybble::PointSpec::shortcut_rule)
      .def_rw("output_lists", &nybble::PointSpec::output_lists);
  bind_epilogue(spec);
  program.def("add_point", &nybble::add_point);
}

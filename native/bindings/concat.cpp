#include "steps/concat.h"

#include "bindings/operations.h"

void bind_concat(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::ConcatSpec>(m, "ConcatSpec")
      .def(nb::init<>())
      .def_rw("inputs", &nybble::ConcatSpec::inputs)
      .def_rw("output", &nybble::ConcatSpec::output)
      .def_rw("output_lists", &nybble::ConcatSpec::output_lists);
  program.def("add_concat", &nybble::add_concat);
}

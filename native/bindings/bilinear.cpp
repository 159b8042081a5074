#include "steps/bilinear.h"

#include "bindings/operations.h"

void bind_bilinear(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::BilinearAxis>(m, "BilinearAxis")
      .def(nb::init<>())
      .def_rw("low", &nybble::BilinearAxis::low)
      .def_rw("high", &nybble::BilinearAxis::high)
      .def_rw("weight", &nybble::BilinearAxis::weight)
      .def_rw("divisor", &nybble::BilinearAxis::divisor);
  nb::class_<nybble::BilinearSpec>(m, "BilinearSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::BilinearSpec::input)
      .def_rw("output", &nybble::BilinearSpec::output)
      .def_rw("rows", &nybble::BilinearSpec::rows)
      .def_rw("columns", &nybble::BilinearSpec::columns)
      .def_rw("output_lists", &nybble::BilinearSpec::output_lists);
  program.def("add_bilinear", &nybble::add_bilinear);
}

#include "steps/mul.h"

#include "bindings/operations.h"

void bind_mul(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::MulSpec> spec(m, "MulSpec");
  spec.def(nb::init<>())
      .def_rw("input", &nybble::MulSpec::input)
      .def_rw("output", &nybble::MulSpec::output)
      .def_rw("other", &nybble::MulSpec::other)
      .def_rw("magnitude", &nybble::MulSpec::magnitude)
      .def_rw("other_magnitude", &nybble::MulSpec::other_magnitude)
      .def_rw("output_lists", &nybble::MulSpec::output_lists);
  bind_epilogue(spec);
  program.def("add_mul", &nybble::add_mul);
}

#include "steps/table.h"

#include "bindings/operations.h"

void bind_table(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::TableSpec>(m, "TableSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::TableSpec::input)
      .def_rw("output", &nybble::TableSpec::output)
      .def_rw("table", &nybble::TableSpec::table)
      .def_rw("output_lists", &nybble::TableSpec::output_lists);
  program.def("add_table", &nybble::add_table);
}

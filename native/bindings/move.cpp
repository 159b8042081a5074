#include "steps/move.h"

#include "bindings/operations.h"

void bind_move(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::MoveSpec>(m, "MoveSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::MoveSpec::input)
      .def_rw("output", &nybble::MoveSpec::output)
      .def_rw("rows", &nybble::MoveSpec::rows)
      .def_rw("columns", &nybble::MoveSpec::columns)
      .def_rw("row_maps", &nybble::MoveSpec::row_maps)
      .def_rw("column_maps", &nybble::MoveSpec::column_maps)
      .def_rw("channels", &nybble::MoveSpec::channels)
      .def_rw("output_lists", &nybble::MoveSpec::output_lists);
  program.def("add_move", &nybble::add_move);
}

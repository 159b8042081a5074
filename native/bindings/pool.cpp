#include "steps/pool.h"

#include "bindings/operations.h"

void bind_pool(nb::module_& m, nb::class_<nybble::Program>& program) {
  nb::class_<nybble::PoolSpec>(m, "PoolSpec")
      .def(nb::init<>())
      .def_rw("input", &nybble::PoolSpec::input)
      .def_rw("output", &nybble::PoolSpec::output)
      .def_rw("average", &nybble::PoolSpec::average)
      .def_rw("kernel_h", &nybble::PoolSpec::kernel_h)
      .def_rw("kernel_w", &nybble::PoolSpec::kernel_w)
      .def_rw("stride_h", &nybble::PoolSpec::stride_h)
      .def_rw("stride_w", &nybble::PoolSpec::stride_w)
      .def_rw("pad_top", &nybble::PoolSpec::pad_top)
      .def_rw("pad_left", &nybble::PoolSpec::pad_left)
      .def_rw("pad_bottom", &nybble::PoolSpec::pad_bottom)
      .def_rw("pad_right", &nybble::PoolSpec::pad_right)
      .def_rw("dilation_h", &nybble::PoolSpec::dilation_h)
      .def_rw("dilation_w", &nybble::PoolSpec::dilation_w)
      .def_rw("count_padding", &nybble::PoolSpec::count_padding)
      .def_rw("output_lists", &nybble::PoolSpec::output_lists);
  program.def("add_pool", &nybble::add_pool);
}

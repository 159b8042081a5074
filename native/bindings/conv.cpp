#include "steps/conv.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "bindings/operations.h"
#include "bindings/rows.h"

void bind_conv(nb::module_& m, nb::class_<nybble::Program>& program) {
  bind_rows(m);
  nb::class_<nybble::ConvSpec> spec(m, "ConvSpec");
  spec.def(nb::init<>())
      .def_rw("input", &nybble::ConvSpec::input)
      .def_rw("output", &nybble::ConvSpec::output)
      .def_rw("kernel_h", &nybble::ConvSpec::kernel_h)
      .def_rw("kernel_w", &nybble::ConvSpec::kernel_w)
      .def_rw("stride_h", &nybble::ConvSpec::stride_h)
      .def_rw("stride_w", &nybble::ConvSpec::stride_w)
      .def_rw("pad_top", &nybble::ConvSpec::pad_top)
      .def_rw("pad_left", &nybble::ConvSpec::pad_left)
      .def_rw("dilation_h", &nybble::ConvSpec::dilation_h)
      .def_rw("dilation_w", &nybble::ConvSpec::dilation_w)
      .def_rw("groups", &nybble::ConvSpec::groups)
      .def_rw("method", &nybble::ConvSpec::method)
      .def_rw("magnitude", &nybble::ConvSpec::magnitude)
      .def_rw("clip_low", &nybble::ConvSpec::clip_low)
      .def_rw("clip_high", &nybble::ConvSpec::clip_high)
      .def_rw("lists", &nybble::ConvSpec::lists)
      .def_rw("block_outputs", &nybble::ConvSpec::block_outputs)
      .def_rw("tile_pixels", &nybble::ConvSpec::tile_pixels)
      .def_rw("visit_bytes", &nybble::ConvSpec::visit_bytes)
      .def_rw("bias", &nybble::ConvSpec::bias)
      .def_rw("shortcut", &nybble::ConvSpec::shortcut)
      .def_rw("shortcut_magnitude", &nybble::ConvSpec::shortcut_magnitude)
      .def_rw("shortcut_requantize", &nybble::ConvSpec::shortcut_requantize)
      .def_rw("shortcut_rule", &nybble::ConvSpec::shortcut_rule)
      .def_rw("output_lists", &nybble::ConvSpec::output_lists);
  bind_epilogue(spec);
  program.def("add_conv", [](nybble::Program& self, nybble::ConvSpec spec,
                             const nb::ndarray<const std::int8_t, nb::c_contig, nb::device::cpu>& weights) {
    spec.weights = weights.data();
    spec.weight_count = weights.size();
    add_conv(self, spec);
  });
}

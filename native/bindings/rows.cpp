// The table of convolution kernels for Python: the limits that each row states, and its checks.
#include "bindings/rows.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "base/cpuid.h"
#include "bindings/operations.h"
#include "kernels/conv/kernels.h"

namespace nb = nanobind;
using nybble::ConvCut;
using nybble::ConvLayer;
using nybble::ConvRow;
using nybble::Element;

namespace {

using Shape = std::tuple<int, int, int>;
using Extents = std::tuple<int, int>;

nybble::Layout layout_of(const Shape& shape, int stride, Element element) {
  const auto [channels, height, width] = shape;
  return {element, channels, height, width, stride};
}

int padded(int channels) {
  return (channels + nybble::kChannelAlign - 1) / nybble::kChannelAlign * nybble::kChannelAlign;
}

void make_layer(ConvLayer* self, const Shape& input, const Shape& output, const Extents& kernel, const Extents& stride,
                const Extents& padding, const Extents& dilation, int groups, int low, int high, int most_weight,
                bool is_padded, const std::optional<Extents>& clip, const std::optional<Extents>& weights) {
  if (groups < 1) throw std::invalid_argument("layer: groups must be positive");
  new (self) ConvLayer();
  nybble::ConvShape& s = self->shape;
  const int channels = std::get<0>(input);
  s.input = layout_of(input, is_padded ? padded(channels) : channels, low < 0 ? Element::s8 : Element::u8);
  s.output = layout_of(output, padded(std::get<0>(output)), Element::s32);
  std::tie(s.kernel_h, s.kernel_w) = kernel;
  std::tie(s.stride_h, s.stride_w) = stride;
  std::tie(s.pad_top, s.pad_left) = padding;
  std::tie(s.dilation_h, s.dilation_w) = dilation;
  s.groups = groups;
  self->low = low;
  self->high = high;
  self->most_weight = most_weight;
  std::tie(self->clip_low, self->clip_high) = clip.value_or(Extents(low, high));
  std::tie(self->weight_low, self->weight_high) = weights.value_or(Extents(-most_weight, most_weight));
  self->is_padded = is_padded;
}

std::vector<std::string> names_of(const std::vector<nybble::Isa>& isas) {
  std::vector<std::string> names;
  for (const nybble::Isa isa : isas) names.emplace_back(nybble::isa_name(isa));
  return names;
}

std::optional<std::string> or_none(const std::string& why) { return why.empty() ? std::nullopt : std::optional(why); }

}  // namespace

void bind_rows(nb::module_& m) {
  nb::class_<ConvLayer>(m, "ConvLayer")
      .def("__init__", make_layer, nb::kw_only(), nb::arg("inputs"), nb::arg("outputs"), nb::arg("kernel"),
           nb::arg("stride"), nb::arg("padding"), nb::arg("dilation"), nb::arg("groups"), nb::arg("low"),
           nb::arg("high"), nb::arg("most_weight"), nb::arg("is_padded"), nb::arg("clip") = nb::none(),
           nb::arg("weights") = nb::none())
      .def_ro("low", &ConvLayer::low)
      .def_ro("high", &ConvLayer::high)
      .def_ro("most_weight", &ConvLayer::most_weight)
      .def_ro("is_padded", &ConvLayer::is_padded);

  // Texts end a sentence that starts with the row's name; None: nothing forbids it.
  nb::class_<ConvRow>(m, "KernelRow")
      .def_prop_ro("name", [](const ConvRow& row) { return std::string(row.name); })
      .def_prop_ro("summary", [](const ConvRow& row) { return std::string(row.summary); })
      .def_prop_ro("isa", [](const ConvRow& row) { return std::string(nybble::isa_name(row.isa)); })
      .def_prop_ro("needs", [](const ConvRow& row) { return std::string(nybble::isa_needs(row.isa)); })
      .def_ro("takes_groups", &ConvRow::takes_groups)
      .def_ro("is_depthwise", &ConvRow::is_depthwise)
      .def_ro("takes_signed", &ConvRow::takes_signed)
      .def_ro("is_padded", &ConvRow::is_padded)
      .def_ro("window", &ConvRow::window)
      .def_ro("most_input", &ConvRow::most_input)
      .def_ro("most_span", &ConvRow::most_span)
      .def_ro("most_weight", &ConvRow::most_weight)
      .def_ro("times_sums", &ConvRow::times_sums)
      .def_ro("products16", &ConvRow::products16)
      .def_ro("list_group", &ConvRow::list_group)
      .def_ro("has_dot_products", &ConvRow::has_dot_products)
      .def_ro("has_signed_quads", &ConvRow::has_signed_quads)
      .def_ro("is_for_groups", &ConvRow::is_for_groups)
      .def_ro("depends_on_weights", &ConvRow::depends_on_weights)
      .def_ro("most_outputs", &ConvRow::most_outputs)
      .def_ro("usual_outputs", &ConvRow::usual_outputs)
      .def_ro("usual_pixels", &ConvRow::usual_pixels)
      .def("why_not", [](const ConvRow& row, const ConvLayer& layer) { return or_none(why_not(row, layer)); })
      .def("why_not_chosen",
           [](const ConvRow& row, const ConvLayer& layer) { return or_none(why_not_chosen(row, layer)); })
      .def(
          "why_not_cut",
          [](const ConvRow& row, const ConvLayer& layer, int block_outputs, int tile_pixels, std::int64_t visit_bytes,
             int list_block) {
            return or_none(why_not_cut(row, layer, {block_outputs, tile_pixels, visit_bytes, list_block}));
          },
          nb::arg("layer"), nb::arg("block_outputs"), nb::arg("tile_pixels"), nb::arg("visit_bytes"),
          nb::arg("list_block"))
      .def("list_blocks",
           [](const ConvRow& row, const ConvLayer& layer) {
             std::vector<int> blocks;
             for (const std::int32_t block : nybble::kListBlocks)
               if (fits_list_block(row, layer, block)) blocks.push_back(block);
             return blocks;
           })
      .def(
          "scratch_bytes",
          [](const ConvRow& row, const ConvLayer& layer, int block_outputs, int tile_pixels) {
            return row.scratch(layer.shape, block_outputs, task_pixels(row, layer.shape, tile_pixels));
          },
          nb::arg("layer"), nb::arg("block_outputs"), nb::arg("tile_pixels"));

  // Of any instruction set of the build, whether this machine has it or not. Rows live as long as the module.
  m.def(
      "kernel_rows",
      [](const std::string& isa) {
        std::vector<const ConvRow*> rows;
        for (const ConvRow& row : nybble::conv_kernels(nybble::known_isa(isa))) rows.push_back(&row);
        return rows;
      },
      nb::arg("isa"), nb::rv_policy::reference);
  m.def("built_isas", [] { return names_of(nybble::built_isas()); });
  // Operations that an instruction set has kernels for, `conv` among them, whose kernels are rows.
  m.def(
      "operations_with_kernels", [](const std::string& isa) { return operations_with_kernels(nybble::known_isa(isa)); },
      nb::arg("isa"));
  // Every instruction set with a line in CMakeLists.txt, also if it was not built or this machine lacks it.
  m.def("all_isas", [] { return names_of(nybble::all_isas()); });
  // Those that this machine can run, those for tests too.
  m.def("runnable_isas", [] { return names_of(nybble::runnable_isas()); });
  m.def("isa_needs", [](const std::string& isa) { return nybble::isa_needs(nybble::known_isa(isa)); });
  m.def("isa_like", [](const std::string& isa) { return nybble::isa_like(nybble::known_isa(isa)); });
  m.def("has_byte_tiles", &nybble::has_byte_tiles);
  // Vendor, family and model of a processor of x86, as /proc/cpuinfo names them.
  m.def("processor", [] {
    const nybble::Processor found = nybble::this_processor();
    return std::make_tuple(found.vendor, found.family, found.model);
  });
  m.def("is_for_tests", [](const std::string& isa) { return nybble::is_for_tests(nybble::known_isa(isa)); });
  m.attr("CHANNEL_ALIGN") = nybble::kChannelAlign;
#if defined(NYBBLE_EMULATED)
  m.attr("EMULATED") = true;
#else
  m.attr("EMULATED") = false;
#endif
}

// The only native code that depends on Python. Arrays arrive with their shapes and dtypes checked by
// nybble.engine; every size is checked once more against the program before memory is touched.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <tuple>

#include "base/cpu.h"
#include "bindings/operations.h"
#include "ceilings/ceilings.h"
#include "core/program.h"
#include "core/thread_pool.h"

namespace nb = nanobind;
using nybble::Element;
using nybble::Program;
using nybble::Requantize;
using nybble::Value;

namespace {

template <typename T>
using ArrayIn = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <typename T>
using ArrayOut = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

void expect(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

std::int64_t value_elements(const Value& value) { return value.layout.pixels() * value.layout.channels; }

// Images in `array`, whose first dimension they are; throws unless the rest is one image of `value`.
template <typename Array>
std::int64_t images_of(const Array& array, const Value& value) {
  expect(array.ndim() >= 1, "array: no dimensions");
  const auto images = static_cast<std::int64_t>(array.shape(0));
  expect(static_cast<std::int64_t>(array.size()) == images * value_elements(value), "array: wrong size");
  return images;
}

std::uint8_t* checked_output(const Program& program, const ArrayOut<std::uint8_t>& out, std::int64_t images) {
  expect(static_cast<std::int64_t>(out.size()) == images * program.output_bytes(), "out: wrong size");
  return out.data();
}

Element element_of(const std::string& name) {
  if (name == "u8") return Element::u8;
  if (name == "s8") return Element::s8;
  if (name == "s32") return Element::s32;
  if (name == "f32") return Element::f32;
  throw std::invalid_argument("unknown element type " + name);
}

void bind_requantize(nb::module_& m) {
  nb::class_<Requantize>(m, "Requantize")
      .def(nb::init<>())
      .def_rw("factor", &Requantize::factor)
      .def_rw("shift", &Requantize::shift)
      .def_rw("low", &Requantize::low)
      .def_rw("high", &Requantize::high);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine. Use nybble.Engine; this module checks sizes, not meaning.";

  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (nybble::Isa isa : nybble::available_isas()) names.emplace_back(nybble::isa_name(isa));
    return names;
  });
  m.def("check_isa", [](const std::string& name) { nybble::isa_from_name(name); });

  // (name, instruction set, whether it counts bytes read instead of MACs) of each.
  m.def("ceilings", [] {
    std::vector<std::tuple<std::string, std::string, bool>> list;
    for (const nybble::Ceiling& entry : nybble::available_ceilings())
      list.emplace_back(entry.name, nybble::isa_name(entry.isa), entry.reads);
    return list;
  });
  m.def("measure_ceiling", &nybble::measure_ceiling, nb::arg("name"), nb::arg("isa"), nb::arg("threads"),
        nb::arg("seconds"), nb::call_guard<nb::gil_scoped_release>());

  // The resources that the engines of this process share, for tests.
  m.def("kept_weight_bytes", &nybble::WeightStore::kept_bytes);
  m.def("worker_threads", [] { return nybble::ThreadPool::shared().workers(); });
  m.def("set_turn_nanoseconds", [](std::int64_t turn) { nybble::ThreadPool::shared().set_turn(turn); });
  m.def("set_turn_of_thread", [](std::int64_t turn) { nybble::ThreadPool::set_turn_of_thread(turn); });

  bind_requantize(m);
  nb::class_<Program> program(m, "Program");
  program
      .def(
          "__init__",
          [](Program* self, const std::string& isa, int threads, int most_images, std::int64_t arena_bytes) {
            new (self) Program(nybble::isa_from_name(isa), threads, most_images, arena_bytes);
          },
          nb::arg("isa"), nb::arg("threads"), nb::arg("most_images"), nb::arg("arena_bytes"))
      .def("add_value",
           [](Program& self, const std::string& element, int channels, int height, int width, bool tight,
              std::int64_t offset) {
             return self.add_value(element_of(element), channels, height, width, tight, offset);
           })
      .def("add_lists", &Program::add_lists)
      .def("set_input", &Program::set_input)
      .def("set_outputs", &Program::set_outputs)
      .def("run_integer",
           [](Program& self, const ArrayIn<std::uint8_t>& x, const ArrayOut<std::uint8_t>& out) {
             const std::int64_t images = images_of(x, self.value(self.input()));
             std::uint8_t* target = checked_output(self, out, images);
             nb::gil_scoped_release release;
             self.run_integer(x.data(), images, target);
           })
      .def("run_samples",
           [](Program& self, const ArrayIn<std::uint8_t>& x, const ArrayIn<std::uint8_t>& table,
              const ArrayOut<std::uint8_t>& out) {
             const Value& input = self.value(self.input());
             const std::int64_t images = images_of(x, input);
             expect(static_cast<std::int64_t>(table.size()) == 256 * input.layout.channels, "table: wrong size");
             std::uint8_t* target = checked_output(self, out, images);
             nb::gil_scoped_release release;
             self.run_samples(x.data(), table.data(), images, target);
           })
      .def("run_float",
           [](Program& self, const ArrayIn<float>& x, float numerator, float denominator, float low, float high,
              const ArrayOut<std::uint8_t>& out) {
             const std::int64_t images = images_of(x, self.value(self.input()));
             std::uint8_t* target = checked_output(self, out, images);
             nb::gil_scoped_release release;
             return self.run_float(x.data(), numerator, denominator, low, high, images, target);
           })
      // Fills taps[i] with values[i], as (images, channels, rows, columns).
      .def("run_tapped",
           [](Program& self, const ArrayIn<std::uint8_t>& x, const ArrayOut<std::uint8_t>& out,
              const std::vector<int>& values, const std::vector<ArrayOut<std::uint8_t>>& taps) {
             const std::int64_t images = images_of(x, self.value(self.input()));
             expect(images <= self.most_images(), "run_tapped: more images than one batch holds");
             expect(values.size() == taps.size(), "run_tapped: a buffer for each value");
             for (std::size_t i = 0; i < values.size(); ++i) {
               const Value& value = self.value(values[i]);
               const auto bytes =
                   value_elements(value) * static_cast<std::int64_t>(nybble::element_bytes(value.layout.element));
               expect(static_cast<std::int64_t>(taps[i].size()) == images * bytes, "run_tapped: wrong buffer size");
             }
             std::uint8_t* target = checked_output(self, out, images);
             nb::gil_scoped_release release;
             self.run_tapped(x.data(), images, target, values,
                             [&taps](std::size_t tap, const std::uint8_t* nchw, std::int64_t) {
                               std::copy(nchw, nchw + taps[tap].size(), taps[tap].data());
                             });
           })
      .def("set_timing", &Program::set_timing)
      .def("take_step_times", &Program::take_step_times, nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("threads", &Program::threads)
      .def_prop_ro("most_images", &Program::most_images)
      .def_prop_ro("weight_bytes", &Program::weight_bytes)
      .def_prop_ro("arena_bytes", &Program::arena_bytes);
  bind_operations(m, program);
}

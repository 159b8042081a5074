// A GPU without one: device memory and launches by the emulator. Used by nybble.backends.cuda only.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "gpu/emulator/fragments.h"
#include "gpu/emulator/kernels.h"
#include "gpu/emulator/memory.h"

namespace nb = nanobind;
namespace emulator = nybble::gpu::emulator;

namespace {

using BytesIn = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const emulator::Kernel& kernel_named(int generation, const std::string& name) {
  const auto kernels = emulator::kernels_of(generation);
  const auto found = std::find_if(kernels.begin(), kernels.end(), [&](const auto& one) { return one.name == name; });
  if (found == kernels.end())
    throw emulator::Error("no kernel " + name + " of generation " + std::to_string(generation));
  return *found;
}

}  // namespace

NB_MODULE(_gpu_emulator, m) {
  m.doc() = "The emulated GPU. Use nybble.load(device='cuda-emulated'); faults of kernels are EmulatorError.";
  nb::exception<emulator::Error>(m, "EmulatorError", PyExc_RuntimeError);

  m.def("allocate", [](std::size_t bytes) { return emulator::memory().allocate(bytes); }, nb::arg("nbytes"));
  m.def("release", [](std::uintptr_t at) { emulator::memory().release(at); }, nb::arg("address"));
  m.def(
      "write", [](std::uintptr_t to, const BytesIn& from) { emulator::memory().write(to, from.data(), from.size()); },
      nb::arg("address"), nb::arg("data"));
  m.def(
      "read", [](std::uintptr_t from, const BytesOut& to) { emulator::memory().read(to.data(), from, to.size()); },
      nb::arg("address"), nb::arg("out"));
  m.def(
      "kernels",
      [](int generation) {
        std::vector<std::tuple<std::string, std::size_t, int, std::size_t>> found;
        for (const auto& one : emulator::kernels_of(generation)) {
          found.emplace_back(one.name, one.params_bytes, one.threads, one.shared_bytes);
        }
        return found;
      },
      nb::arg("generation"));
  m.def(
      "launch",
      [](int generation, const std::string& name, int grid_x, int grid_y, const nb::bytes& params, std::uint64_t seed) {
        const emulator::Kernel& kernel = kernel_named(generation, name);
        if (params.size() != kernel.params_bytes) throw emulator::Error(name + ": parameters of another size");
        if (grid_x < 1 || grid_y < 1) throw emulator::Error(name + ": an empty grid");
        // Aligned as the kernel's structure is.
        std::vector<std::uint64_t> aligned((params.size() + 7) / 8);
        std::copy_n(static_cast<const char*>(params.data()), params.size(), reinterpret_cast<char*>(aligned.data()));
        emulator::launch(kernel, grid_x, grid_y, aligned.data(), seed);
      },
      nb::arg("generation"), nb::arg("name"), nb::arg("grid_x"), nb::arg("grid_y"), nb::arg("params"), nb::arg("seed"));
}

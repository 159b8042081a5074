// The step that resizes by bilinear interpolation.
#include "steps/bilinear.h"

#include <array>
#include <bit>

#include "core/step.h"

namespace nybble {
namespace {

// floor((2 * sum + divisor) / (2 * divisor)) by a shift, where the divisor is a power of two and sums fit 32 bits.
struct ByShift {
  using Sum = std::int32_t;
  std::int32_t half;
  int shift;

  Sum operator()(Sum sum) const { return (sum + half) >> shift; }
};

// The same by a division; `offset` divisors are added first, so that it is one of numbers that are not negative.
struct ByDivision {
  using Sum = std::int64_t;
  std::int64_t divisor, offset;

  Sum operator()(Sum sum) const { return (2 * sum + (2 * offset + 1) * divisor) / (2 * divisor) - offset; }
};

// 8-bit values of either sign are above this.
constexpr std::int64_t kOffset = 128;

class BilinearStep final : public Step {
 public:
  BilinearStep(const Layout& in, const Layout& out, const BilinearSpec& spec)
      : in_(in), out_(out), input_(spec.input), rows_(spec.rows), columns_(spec.columns) {}

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    if (in_.element == Element::s8)
      run_row<std::int8_t>(memory, chunk);
    else
      run_row<std::uint8_t>(memory, chunk);
    output_lists.build(memory, chunk * out_.width, out_.width);
  }

 private:
  template <class T>
  void run_row(const Memory& memory, std::int64_t chunk) const {
    const std::int64_t divisor = std::int64_t{rows_.divisor} * columns_.divisor;
    const auto unsigned_divisor = static_cast<std::uint64_t>(divisor);
    if (std::has_single_bit(unsigned_divisor) && divisor <= 1 << 20)
      interpolate<T>(memory, chunk,
                     ByShift{static_cast<std::int32_t>(divisor / 2), std::countr_zero(unsigned_divisor)});
    else
      interpolate<T>(memory, chunk, ByDivision{divisor, kOffset});
  }

  template <class T, class Rounding>
  void interpolate(const Memory& memory, std::int64_t chunk, const Rounding& rounded) const {
    using Sum = typename Rounding::Sum;
    const std::int64_t image = chunk / out_.height;
    const auto y = static_cast<std::size_t>(chunk % out_.height);
    const auto* input = reinterpret_cast<const T*>(memory.at(input_)) + image * in_.image_elements();
    auto* out = reinterpret_cast<T*>(memory.at(output)) + chunk * out_.width * out_.stride;
    const std::int64_t row = std::int64_t{in_.width} * in_.stride;
    const T *above = input + rows_.low[y] * row, *below = input + rows_.high[y] * row;
    const Sum down = rows_.weight[y], up = rows_.divisor - down;
    for (std::size_t x = 0; x < columns_.low.size(); ++x, out += out_.stride) {
      const Sum right = columns_.weight[x], left = columns_.divisor - right;
      const std::int64_t first = std::int64_t{columns_.low[x]} * in_.stride;
      const std::int64_t second = std::int64_t{columns_.high[x]} * in_.stride;
      const T *a = above + first, *b = above + second, *c = below + first, *d = below + second;
      const std::array<Sum, 4> weights{up * left, up * right, down * left, down * right};
      for (std::int32_t i = 0; i < out_.channels; ++i)
        out[i] = static_cast<T>(rounded(weights[0] * a[i] + weights[1] * b[i] + weights[2] * c[i] + weights[3] * d[i]));
      for (std::int32_t i = out_.channels; i < out_.stride; ++i) out[i] = 0;
    }
  }

  Layout in_, out_;
  int input_;
  BilinearAxis rows_, columns_;
};

void check_axis(const BilinearAxis& axis, std::int32_t extent, std::int32_t size) {
  const auto count = static_cast<std::size_t>(size);
  require(axis.low.size() == count && axis.high.size() == count && axis.weight.size() == count,
          "bilinear: two indices and a weight for each row and column");
  // Two of them, and a sum of 8-bit values, stay below 2^63.
  require(axis.divisor >= 1 && axis.divisor <= 1 << 20, "bilinear: divisor out of range");
  for (std::size_t i = 0; i < count; ++i) {
    require(axis.low[i] >= 0 && axis.low[i] < extent && axis.high[i] >= 0 && axis.high[i] < extent,
            "bilinear: reads outside of the input");
    require(axis.weight[i] >= 0 && axis.weight[i] <= axis.divisor, "bilinear: weight out of range");
  }
}

}  // namespace

void add_bilinear(Program& program, const BilinearSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(element_bytes(in.element) == 1 && in.element == out.element, "bilinear: 8-bit values only");
  require(in.channels == out.channels, "bilinear: channels differ");
  check_axis(spec.rows, in.height, out.height);
  check_axis(spec.columns, in.width, out.width);
  program.add_step(std::make_unique<BilinearStep>(in, out, spec), access);
}

}  // namespace nybble

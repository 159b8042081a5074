#include "core/epilogue_data.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/steps.h"

namespace nybble {
namespace {

constexpr std::int64_t kExactFloat = std::int64_t{1} << 24;

void check_rule(const Requantize& rule) {
  require(rule.shift >= 0 && rule.shift <= 31, "requantize: shift is not in 0..31");
  require(rule.low <= rule.high, "requantize: empty range");
}

}  // namespace

EpilogueData::EpilogueData(const Layout& output, std::vector<std::int32_t> bias)
    : output_(output), bias_(std::move(bias)) {
  require(bias_.empty() || bias_.size() == static_cast<std::size_t>(output.channels), "bias: wrong length");
  bias_.resize(static_cast<std::size_t>(output.stride), 0);
  epilogue_.bias = bias_.data();
  epilogue_.narrow = true;
}

std::vector<std::uint32_t> EpilogueData::padded(const std::vector<std::uint32_t>& factor, const char* what) const {
  require(factor.size() == static_cast<std::size_t>(output_.channels), what);
  std::vector<std::uint32_t> result = factor;
  result.resize(static_cast<std::size_t>(output_.stride), 0);
  return result;
}

void EpilogueData::add_shortcut(const Layout& shortcut, std::int64_t magnitude, bool requantize,
                                const Requantize& rule) {
  require(shortcut.channels == output_.channels && shortcut.height == output_.height &&
              shortcut.width == output_.width && shortcut.stride == output_.stride,
          "shortcut: its shape is not the output's");
  require(shortcut.element != Element::f32, "shortcut: cannot be float");
  epilogue_.shortcut = true;
  epilogue_.shortcut_type = shortcut.element;
  epilogue_.shortcut_requantize = requantize;
  if (!requantize) return;
  check_rule(rule);
  shortcut_factor_ = padded(rule.factor, "shortcut: wrong number of factors");
  epilogue_.shortcut_factor = shortcut_factor_.data();
  epilogue_.shortcut_shift = rule.shift;
  const std::int64_t most = *std::max_element(shortcut_factor_.begin(), shortcut_factor_.end());
  const std::int64_t half = rule.shift > 0 ? std::int64_t{1} << (rule.shift - 1) : 0;
  // The product in 32 bits, and the clamp to the shortcut's own type, must be idle.
  const bool fits = most == 0 || magnitude <= (INT32_MAX - half) / most;
  epilogue_.narrow = epilogue_.narrow && fits;
}

void EpilogueData::set_relu(std::int32_t maximum) {
  require(maximum >= 0, "relu: negative maximum");
  epilogue_.relu = true;
  epilogue_.relu_maximum = maximum;
}

void EpilogueData::set_requantize(const Requantize& rule) {
  check_rule(rule);
  factor_ = padded(rule.factor, "requantize: wrong number of factors");
  for (std::uint32_t factor : factor_) scale_.push_back(std::ldexp(static_cast<float>(factor), -rule.shift));
  epilogue_.requantize = true;
  epilogue_.factor = factor_.data();
  epilogue_.scale = scale_.data();
  epilogue_.shift = rule.shift;
  epilogue_.low = rule.low;
  epilogue_.high = rule.high;
  const std::int64_t most = *std::max_element(factor_.begin(), factor_.end());
  const std::int64_t magnitude = std::max(std::int64_t{rule.high}, -std::int64_t{rule.low});
  const bool exact = most <= kExactFloat && magnitude + 1 <= kExactFloat >> rule.shift;
  epilogue_.narrow = epilogue_.narrow && exact && element_bytes(output_.element) == 1;
}

}  // namespace nybble

#include "core/epilogue_data.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/step.h"

namespace nybble {
namespace {

constexpr std::int64_t kExactFloat = std::int64_t{1} << 24;
// Of values in 16-bit lanes, so that factors from 1 to 8 fit as well.
constexpr std::int32_t kMostDoublings = 3;

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
  shortcut_magnitude_ = magnitude;
  if (!requantize) return;
  check_rule(rule);
  shortcut_factor_ = padded(rule.factor, "shortcut: wrong number of factors");
  epilogue_.shortcut_factor = shortcut_factor_.data();
  epilogue_.shortcut_shift = rule.shift;
  // The clamp to the shortcut's own type is idle in a valid graph.
  shortcut_lanes_ = LaneFactorData(shortcut_factor_, rule.shift, magnitude);
  epilogue_.shortcut_lanes = shortcut_lanes_.get();
  epilogue_.narrow = shortcut_lanes_.fits();
}

void EpilogueData::finish(const EpilogueSpec& spec) {
  if (spec.relu) set_relu(spec.relu_maximum);
  if (spec.requantize) set_requantize(spec.rule);
  if (!spec.negative.empty()) set_negative(spec.negative);
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
  const bool is_byte = element_bytes(output_.element) == 1;
  epilogue_.narrow = shortcut_lanes_.fits() && exact && is_byte;
  if (exact || !shortcut_lanes_.fits() || !is_byte) return;
  for (std::uint32_t factor : factor_) scale_double_.push_back(std::ldexp(static_cast<double>(factor), -rule.shift));
  epilogue_.scale_double = scale_double_.data();
  set_guard();
}

// Whether guarded.inc.h may compute results in float32. In units of 2^-kGuardBits of a step, let S be the exact product
// of a value and its factor, C half a step, and u = 2^-24. Kernels compute q = (S (1 + a) (1 + b) + C) (1 + c): the
// value as a float, the factor as one, and the fused product and sum are each off by u of their size at most. So |q -
// (S + C)| <= |S| (3u + 4u^2) + C u (1 + u). It must be less than one half.
//
// Where a result and its half lie no more than a step outside what is kept, |S| is less than 2 steps more than the
// largest result in size, which is what `error` counts with. All others are off by less than 3u of their size, so that
// they stay outside, on their side, and clamp. (The least integer there is, which is what all below it become, clamps
// as well.)
void EpilogueData::set_guard() {
  const Epilogue& e = epilogue_;
  if (e.high < 0 || e.high > UINT8_MAX || (!e.is_unsigned() && !e.is_signed())) return;
  const double step = 1 << kGuardBits, unit = std::ldexp(1.0, -24);
  const double steps = 2 + std::max(e.high, e.is_signed() ? -e.low : 0);
  const double error = (steps * 3.001 + 1) * step * unit;
  if (error >= 0.5) return;
  epilogue_.guarded = true;
  epilogue_.guarded_most = static_cast<float>((e.high + 0.5) * step);
  for (float& scale : scale_) scale = std::ldexp(scale, kGuardBits);
}

// Choices that hold for one factor per channel are reverted. The bound of set_guard holds for factors of either sign.
void EpilogueData::set_negative(const std::vector<std::int32_t>& factor) {
  Epilogue& e = epilogue_;
  require(e.requantize && !e.relu && element_bytes(output_.element) == 1,
          "requantize: factors below zero need a result of 8 bits and no ReLU");
  require(factor.size() == static_cast<std::size_t>(output_.channels),
          "requantize: wrong number of factors below zero");
  negative_.assign(factor.begin(), factor.end());
  negative_.resize(static_cast<std::size_t>(output_.stride), 0);
  e.negative = negative_.data();
  const bool had_guard = e.guarded;
  if (!had_guard) set_guard();
  const bool is_guarded = e.guarded;
  e.narrow = e.guarded = false;
  e.scale_double = nullptr;
  if (!is_guarded || !shortcut_lanes_.fits()) return;
  for (std::int64_t each : negative_)
    negative_scale_.push_back(std::ldexp(static_cast<float>(each), kGuardBits - e.shift));
  e.negative_scale = negative_scale_.data();
}

// The result of a sum that has its bias and shortcut.
std::int64_t EpilogueData::requantized(std::int64_t value, std::size_t channel) const {
  if (epilogue_.relu) value = std::clamp<std::int64_t>(value, 0, epilogue_.relu_maximum);
  return std::clamp<std::int64_t>(requantize(value, factor_[channel], epilogue_.shift), epilogue_.low, epilogue_.high);
}

// The same in 16-bit lanes, which saturate and have no maximum of a ReLU.
std::int64_t EpilogueData::requantized_words(std::int64_t value, std::size_t channel) const {
  for (std::int32_t i = 0; i <= epilogue_.doublings; ++i)
    value = std::clamp<std::int64_t>(i == 0 ? value : 2 * value, INT16_MIN, INT16_MAX);
  if (epilogue_.relu) value = std::max<std::int64_t>(value, 0);
  return std::clamp<std::int64_t>(requantize(value, factor_[channel], epilogue_.shift + epilogue_.doublings),
                                  epilogue_.low, epilogue_.high);
}

std::uint32_t EpilogueData::shortcut_factor(std::size_t channel) const {
  return epilogue_.shortcut_requantize ? shortcut_factor_[channel] : 1;
}

// An unsigned shortcut's factor without a shift is doubled, and the rounded halving takes the double away.
std::uint64_t EpilogueData::shortcut_factor16(std::size_t channel) const {
  const std::uint64_t factor = shortcut_factor(channel);
  return epilogue_.shortcut_type == Element::u8 && epilogue_.shortcut_shift == 0 ? 2 * factor : factor;
}

// Puts the factor that 16-bit lanes multiply by into factor16_; false if they do not hold it.
bool EpilogueData::add_word_factor(std::size_t channel, bool is_wide) {
  const std::int32_t bits = is_wide ? 32 - epilogue_.doublings : 17;
  const bool is_whole = epilogue_.shift <= bits;
  const std::uint64_t factor = is_whole ? std::uint64_t{factor_[channel]} << (bits - epilogue_.shift) : 0;
  const bool fits = is_whole && factor <= (is_wide ? UINT32_MAX : UINT16_MAX);
  factor16_.push_back(static_cast<std::uint16_t>(!fits ? 0 : is_wide ? factor >> 16 : factor));
  if (is_wide) factor16_low_.push_back(static_cast<std::uint16_t>(fits ? factor : 0));
  return fits;
}

// What 16-bit lanes compute is this epilogue if
// - they hold the sum;
// - factor * 2^(17 - shift) fits 16 bits: floor(floor(v * factor16 / 2^16) / 2 + 1/2) is the rounded quotient,
//   since a floor of a floor is the floor; or factor * 2^(32 - shift) fits 32, with which nothing is rounded before
//   (multiply_wide_factor). Values may be doubled first, and factors be half as large;
// - where a sum saturates, the result is what the exact sum gives: it is monotonic in the sum, so it is enough to look
//   at the ends. (With an unsigned shortcut of at most 32,767 a sum that saturates below stays negative.)
// A bias that 16 bits do not hold is cut to them, which is right where the result is one and the same for all sums.
//
// Sums of 32 bits come with their bias, saturated.
bool EpilogueData::fits_words(std::size_t channel, std::int64_t lowest, std::int64_t highest) const {
  const bool is_own = word_sums_ == WordSums::own;
  if (is_own && (lowest < INT16_MIN || highest > INT16_MAX)) return false;
  if (is_own && bias_[channel] != bias16_[channel]) {
    const std::int64_t result = requantized(lowest + bias_[channel], channel);
    const auto words = [&](std::int64_t sum) { return requantized_words(sum + bias16_[channel], channel); };
    return !epilogue_.shortcut && requantized(highest + bias_[channel], channel) == result && words(lowest) == result &&
           words(highest) == result && (!epilogue_.relu || epilogue_.relu_maximum == INT32_MAX);
  }
  lowest += bias_[channel];
  highest += bias_[channel];
  if (epilogue_.shortcut) {
    const std::int64_t most = requantize(shortcut_magnitude_, shortcut_factor(channel), epilogue_.shortcut_shift);
    if (!fits_word_shortcut(channel, most, lowest, highest)) return false;
    if (epilogue_.shortcut_type == Element::s8) lowest -= most;
    highest += most;
  }
  const std::int64_t above = std::min<std::int64_t>(highest, INT16_MAX);
  if (epilogue_.relu && epilogue_.relu_maximum < above && requantized(above, channel) < epilogue_.high) return false;
  return requantized_words(highest, channel) == requantized(highest, channel) &&
         requantized_words(lowest, channel) == requantized(lowest, channel);
}

// Whether a shortcut of at most `most` is added exactly to sums of a channel that have their bias.
bool EpilogueData::fits_word_shortcut(std::size_t channel, std::int64_t most, std::int64_t lowest,
                                      std::int64_t highest) const {
  const std::uint64_t factor = shortcut_factor16(channel);
  if (factor != shortcut_factor16_[channel]) return false;
  const bool is_signed = epilogue_.shortcut_type == Element::s8;
  // 16-bit factors are signed, except for a signed result.
  if (is_signed && factor > INT16_MAX && !is_signed_result()) return false;
  if (!is_signed && (shortcut_magnitude_ * shortcut_factor16_[channel] > UINT16_MAX || most > INT16_MAX)) return false;
  // A sum that saturates before a shortcut of the other sign is added is less far out than it should be: that must not
  // show. (Own sums are halted by a ReLU's zero where the shortcut is unsigned.)
  const bool is_low = lowest < INT16_MIN;
  const bool is_high = highest > INT16_MAX;
  if (word_sums_ == WordSums::own) return !is_signed || (!is_low && !is_high);
  const std::int64_t least = is_signed ? -most : 0;
  return (!is_low || requantized_words(INT16_MIN + most, channel) == requantized(lowest + least, channel)) &&
         (!is_high || requantized_words(INT16_MAX + least, channel) == requantized(highest + most, channel));
}

bool EpilogueData::is_signed_result() const { return epilogue_.low < 0 && !epilogue_.relu; }

// Whether 16-bit lanes compute the shortcut that there is, if any, and what they need for it.
bool EpilogueData::add_word_shortcut() {
  if (!epilogue_.shortcut) return true;
  if (epilogue_.shortcut_type == Element::s32) return false;
  // A signed result's shortcut is signed, and 8 of its bits are lost before it is rounded: scaled_byte.
  const bool is_signed_sum = is_signed_result();
  if (is_signed_sum && (epilogue_.shortcut_type != Element::s8 || epilogue_.shortcut_shift < 9 ||
                        epilogue_.shortcut_shift > 23 || shortcut_magnitude_ > 128))
    return false;
  epilogue_.shortcut_shift16 = std::max(epilogue_.shortcut_shift - (is_signed_sum ? 8 : 1), 0);
  for (std::size_t k = 0; k < bias_.size(); ++k)
    shortcut_factor16_.push_back(static_cast<std::uint16_t>(std::min<std::uint64_t>(shortcut_factor16(k), UINT16_MAX)));
  return true;
}

// Groups of kChannelAlign channels that 16-bit lanes finish with such factors. Leaves these and the groups behind.
std::ptrdiff_t EpilogueData::try_words(const std::vector<std::int64_t>& lowest,
                                       const std::vector<std::int64_t>& highest, bool is_wide, std::int32_t doublings) {
  epilogue_.doublings = doublings;
  factor16_.clear();
  factor16_low_.clear();
  words_.assign(bias_.size() / kChannelAlign, 1);
  for (std::size_t k = 0; k < bias_.size(); ++k)
    if (!add_word_factor(k, is_wide) ||
        (k < static_cast<std::size_t>(output_.channels) && !fits_words(k, lowest[k], highest[k])))
      words_[k / kChannelAlign] = 0;
  return std::count(words_.begin(), words_.end(), 1);
}

void EpilogueData::use_words(const std::vector<std::int64_t>& lowest, const std::vector<std::int64_t>& highest,
                             WordSums sums) {
  word_sums_ = sums;
  const bool is_unsigned = epilogue_.low == 0 || (epilogue_.relu && epilogue_.low < 0);
  if (!epilogue_.requantize || epilogue_.negative != nullptr || element_bytes(output_.element) != 1) return;
  if (epilogue_.low > 0 || (!is_unsigned && epilogue_.relu) || !add_word_shortcut()) return;
  for (std::int32_t bias : bias_) bias16_.push_back(static_cast<std::int16_t>(std::clamp(bias, INT16_MIN, INT16_MAX)));
  // Factors of 16 bits cost least; of 32 bits, few doublings. With a shortcut there are none but the first.
  std::ptrdiff_t most = try_words(lowest, highest, false, 0);
  bool is_wide = false;
  std::int32_t doublings = 0;
  for (std::int32_t n = 0; n <= kMostDoublings && !epilogue_.shortcut; ++n) {
    if (most == static_cast<std::ptrdiff_t>(words_.size())) break;
    const std::ptrdiff_t found = try_words(lowest, highest, true, n);
    if (found <= most) continue;
    most = found;
    is_wide = true;
    doublings = n;
  }
  if (try_words(lowest, highest, is_wide, doublings) == 0) {
    epilogue_.doublings = 0;
    return;
  }
  epilogue_.words = words_.data();
  epilogue_.bias16 = bias16_.data();
  epilogue_.factor16 = factor16_.data();
  if (is_wide) epilogue_.factor16_low = factor16_low_.data();
  epilogue_.shortcut_factor16 = shortcut_factor16_.data();
}

void EpilogueData::use_staged(const std::vector<std::int64_t>& highest, const std::vector<std::int32_t>& correction,
                              const std::vector<std::int32_t>& order) {
  const bool is_float = epilogue_.narrow || epilogue_.guarded;
  if (!is_float || !epilogue_.requantize || epilogue_.shortcut || !epilogue_.is_unsigned()) return;
  for (std::size_t k = 0; k < static_cast<std::size_t>(output_.channels); ++k)
    if (static_cast<double>(highest[k] + bias_[k]) * static_cast<double>(scale_[k]) >= double{1 << 30}) return;
  bias_staged_.resize(bias_.size());
  scale_staged_.resize(bias_.size());
  for (std::int32_t i = 0; i < output_.stride; ++i) {
    const std::int32_t within = i % kChannelAlign;
    const auto channel = static_cast<std::size_t>(i - within + order[static_cast<std::size_t>(within)]);
    // Modulo 2^32, as sums are.
    bias_staged_[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(
        static_cast<std::uint32_t>(bias_[channel]) + static_cast<std::uint32_t>(correction[channel]));
    scale_staged_[static_cast<std::size_t>(i)] = scale_[channel];
  }
  epilogue_.bias_staged = bias_staged_.data();
  epilogue_.scale_staged = scale_staged_.data();
}

}  // namespace nybble

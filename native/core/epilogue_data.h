// Owns the arrays that an Epilogue points to.
#pragma once

#include <cstddef>
#include <vector>

#include "core/program.h"
#include "kernels/conv/epilogue.h"
#include "kernels/conv/pack.h"

namespace nybble {

class EpilogueData {
 public:
  // `output` is where results go; vectors have its channel count and are padded to its stride.
  EpilogueData(const Layout& output, std::vector<std::int32_t> bias);

  void add_shortcut(const Layout& shortcut, std::int64_t magnitude, bool requantize, const Requantize& rule);
  // ReLU and requantize. Call it after add_shortcut.
  void finish(const EpilogueSpec& spec);
  // Finds the channels that 16-bit lanes finish exactly, from the least and greatest sum of each output. Call it last.
  void use_words(const std::vector<std::int64_t>& lowest, const std::vector<std::int64_t>& highest, WordSums sums);
  // Biases, with `correction`, and scales in the order in which a kernel holds each kChannelAlign sums, if the result
  // is unsigned and its float32 cannot pass 2^31. Call it last.
  void use_staged(const std::vector<std::int64_t>& highest, const std::vector<std::int32_t>& correction,
                  const std::vector<std::int32_t>& order);

  const Epilogue& get() const { return epilogue_; }

 private:
  std::vector<std::uint32_t> padded(const std::vector<std::uint32_t>& factor, const char* what) const;

  void set_relu(std::int32_t maximum);
  void set_requantize(const Requantize& rule);
  void set_guard();
  void set_negative(const std::vector<std::int32_t>& factor);
  bool is_signed_result() const;
  bool add_word_shortcut();
  bool add_word_factor(std::size_t channel, bool is_wide);
  std::ptrdiff_t try_words(const std::vector<std::int64_t>& lowest, const std::vector<std::int64_t>& highest,
                           bool is_wide, std::int32_t doublings);
  bool fits_words(std::size_t channel, std::int64_t lowest, std::int64_t highest) const;
  bool fits_word_shortcut(std::size_t channel, std::int64_t most, std::int64_t lowest, std::int64_t highest) const;
  std::uint32_t shortcut_factor(std::size_t channel) const;
  std::uint64_t shortcut_factor16(std::size_t channel) const;
  std::int64_t requantized(std::int64_t value, std::size_t channel) const;
  std::int64_t requantized_words(std::int64_t value, std::size_t channel) const;

  Layout output_;
  LaneFactorData shortcut_lanes_;
  std::int64_t shortcut_magnitude_ = 0;
  WordSums word_sums_ = WordSums::none;
  std::vector<std::int32_t> bias_;
  std::vector<std::uint32_t> shortcut_factor_, factor_;
  std::vector<float> scale_, negative_scale_;
  std::vector<std::int64_t> negative_;
  std::vector<double> scale_double_;
  std::vector<std::int32_t> bias_staged_;
  std::vector<float> scale_staged_;
  std::vector<std::uint8_t> words_;
  std::vector<std::int16_t> bias16_;
  std::vector<std::uint16_t> factor16_, factor16_low_, shortcut_factor16_;
  Epilogue epilogue_;
};

}  // namespace nybble

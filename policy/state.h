// The bytes of a saved policy. All numbers little-endian; f64 is IEEE 754 binary64.
//
//   8 bytes  "SPLITEE\0"
//   u32      version (6)
//   u32      length of the policy's name, then the name
//   u64      hash of the model (PolicyOptions::model_hash)
//   u32      arms, then per arm u64 its layer
//   u32      number of alphas per exit (0: none), then per exit f64
//   f64 x 9  alpha, exploration, entropy threshold (-1: none), discount, change threshold, mu,
//            lambda1, lambda2, o
//   u64 x 3  fixed arm, patience, window
//   u64      outcomes rejected so far
//   ...      what the algorithm learned, in the order of its archive() function
//   u64      content_hash (base/hash.h) of everything before
//
// Everything up to the counter must equal the loading policy's own options, so that numbers
// learned under other costs or thresholds are never taken for its own; the costs are those of the
// moment of saving. A policy that learns nothing of costs ("factored", "factored-alpha") writes
// CostModel's defaults for the last four.
// Thread rule: plain values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "base/status.h"
#include "policy/policy.h"

namespace splitee::policy {

// Writes to a string, or reads from bytes, by the same calls, so that an algorithm names its
// fields once. A failed read leaves the fields as they are and makes failed() true.
class StateArchive {
 public:
  StateArchive() = default;                                         // writes
  explicit StateArchive(std::string_view bytes) : input_(bytes) {}  // reads

  bool reading() const { return input_.data() != nullptr; }
  bool failed() const { return failed_; }
  bool at_end() const { return position_ == input_.size(); }
  const std::string& output() const { return output_; }

  // Beyond any use, and near enough to 1 that products and sums of squares of them stay finite.
  static constexpr double kMostCount = 0x1p53;  // from here on, counting by one stops
  static constexpr double kMostReward = 1e70;   // of costs and weights that check_costs() takes

  void word(std::uint64_t& value) { exchange(value, 8); }
  // A u64 up to kMostCount, or the read fails.
  void counter(std::uint64_t& value);
  void number(double& value, double most = kMostReward);  // from -most to most, or the read fails
  void non_negative(double& value, double most = kMostReward);  // 0 .. most, not -0
  void count(double& value);                                    // a whole number, 0 .. kMostCount
  void number(std::span<double> values, double most = kMostReward);
  void non_negative(std::span<double> values, double most = kMostReward);
  void count(std::span<double> values);
  void index(std::size_t& value, std::uint64_t bound);  // < bound, or the read fails
  void flag(bool& value);                               // 0 or 1, or the read fails
  void rng(Rng& rng);
  // Single precision, two to a word; each within -1 .. bound, or the read fails.
  void packed(std::span<float> values, float bound);
  // The read fails: what was read does not fit together.
  void refuse() { failed_ = true; }
  // What must hold between values read: else the read fails. Free when writing.
  void require(bool holds) { failed_ = failed_ || (reading() && !holds); }

 private:
  void exchange(std::uint64_t& value, std::size_t bytes);

  std::string_view input_;
  std::size_t position_ = 0;
  std::string output_;
  bool failed_ = false;
};

// The part before the counter.
std::string state_header(std::string_view name, const PolicyOptions& options);

// Checks magic, version, checksum and header; the view is what lies between header and checksum.
Result<std::string_view> open_state(std::string_view bytes, std::string_view name,
                                    const PolicyOptions& options);
// header + body + checksum.
std::string seal_state(std::string header, std::string_view body);

}  // namespace splitee::policy

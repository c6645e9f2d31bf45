// What audits have shown: per audited sample the confidence of every exit, and whether its class
// differs from the last exit's. The newest rows are kept. Column-major, and each exit's rows in
// descending order of confidence are always at hand, for the planner (chain_planner.h).
//
// A sample whose audit began at its first look lacks the exits before; they are filled in from the
// complete row that is nearest in confidence at that look and agrees in whether that differs
// ("hot deck"), so that the joint distribution stays whole.
// State: u64 rows, u64 place of the oldest, then per row, by place, floats, two to a word: per exit
// the confidence, negative where the class differs; the weight; 0 where the row lacks exits, 1
// where it is complete, 2 where it is a held-out one of the model file. Thread rule: plain values.
// No allocation after construction.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/state.h"

namespace splitee::policy {

class AuditRows {
 public:
  static constexpr std::size_t kCapacity = 1024;
  static constexpr float kLargestWeight = 32.0f;

  explicit AuditRows(std::size_t exits);

  // `seen` (exits): confidence, negative where the class differs from the last exit's; entries
  // before `from` are not looked at.
  void add(std::span<const float> seen, std::size_t from, float weight) {
    add(seen, from, weight, from == 0 ? Kind::kComplete : Kind::kPartial);
  }
  // A complete row of the model file's held-out samples.
  void add_held_out(std::span<const float> seen, float weight) {
    add(seen, 0, weight, Kind::kHeldOut);
  }
  // Rows count for less from now on.
  void scale_weights(float factor);
  // Held-out ones do.
  void scale_held_out(float factor);
  void set_weight(std::size_t row, float weight) {
    weight_[row] = std::clamp(weight, 0.0f, kLargestWeight);
  }

  std::size_t exits() const { return exits_; }
  std::size_t size() const { return size_; }
  double total_weight() const;
  std::span<const float> confidence(std::size_t exit) const { return column(confidence_, exit); }
  std::span<const float> differs(std::size_t exit) const { return column(differs_, exit); }
  std::span<const float> weight() const { return {weight_.data(), size_}; }
  bool held_out(std::size_t row) const { return kind_[row] == Kind::kHeldOut; }
  // Exits before the first look were filled in.
  bool partial(std::size_t row) const { return kind_[row] == Kind::kPartial; }
  // Rows by descending confidence at the exit, those of equal confidence by place.
  std::span<const std::uint16_t> order(std::size_t exit) const {
    return {&order_[exit * kCapacity], size_};
  }

  void archive(StateArchive& archive);
  // Of rows that are there already: u64 rows, u64 hash of what they hold, then the weights, two to
  // a word. Where those read are of other rows, none is left here.
  void archive_weights(StateArchive& archive);

 private:
  enum class Kind : std::uint8_t { kPartial, kComplete, kHeldOut };

  void add(std::span<const float> seen, std::size_t from, float weight, Kind kind);
  std::span<const float> column(const std::vector<float>& values, std::size_t exit) const {
    return {&values[exit * kCapacity], size_};
  }
  std::uint64_t rows_hash() const;
  std::size_t take_place();
  std::size_t donor(std::span<const float> seen, std::size_t from, std::size_t place) const;
  void put(std::size_t exit, std::size_t place, float signed_confidence);
  void remove_from_order(std::size_t exit, std::size_t place);
  void write_row(StateArchive& archive, std::size_t place);
  void read_row(StateArchive& archive);

  std::size_t exits_;
  std::size_t size_ = 0;
  std::size_t oldest_ = 0;                   // place that is used again next, once all are taken
  std::vector<float> confidence_, differs_;  // (exits, kCapacity)
  std::vector<std::uint16_t> order_;         // (exits, kCapacity)
  std::vector<float> weight_;                // (kCapacity)
  std::vector<Kind> kind_;                   // (kCapacity)
  std::vector<float> row_;                   // of archive(): exits, weight, kind
};

}  // namespace splitee::policy

#include "policy/learners/shift_test.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

// In units of sqrt(1 / before + 1 / recent).
constexpr double kRecentDistance = 2.25, kFewDistance = 2.6;
constexpr double kPriorDistance = 2.2;   // in the same unit
constexpr double kLeastEffective = 0.4;  // share of the held-out rows
constexpr double kMoreDiffering = 4.0;   // standard deviations
constexpr double kRatio = 3.0;
constexpr double kAlarm = 8.0;
constexpr std::uint64_t kMostKnown = std::uint64_t{1} << 32;

}  // namespace

ShiftTest::Edges ShiftTest::edges_of(const AuditRows& rows, std::size_t exit) {
  Edges edges;
  const std::span<const std::uint16_t> order = rows.order(exit);
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const std::size_t place = (i + 1) * order.size() / kBins;
    edges[i] = rows.confidence(exit)[order[order.size() - 1 - place]];
  }
  return edges;
}

std::size_t ShiftTest::bin_of(const Edges& edges, float confidence) {
  return static_cast<std::size_t>(std::ranges::upper_bound(edges, confidence) - edges.begin());
}

void ShiftTest::begin(std::span<const float, kBins - 1> edges, std::uint64_t known) {
  std::ranges::copy(edges, edges_.begin());
  before_.fill(0);
  count_ = 0;
  known_ = known;
}

bool ShiftTest::add(float confidence) {
  const auto bin = static_cast<std::uint8_t>(bin_of(edges_, confidence));
  std::uint8_t& place = ring_[count_ % kRecent];
  if (count_ >= kRecent) ++before_[place];
  place = bin;
  ++count_;
  if (count_ % kEvery != 0 || count_ < kFew) return false;
  const std::uint64_t before = known_ + (count_ > kRecent ? count_ - kRecent : 0);
  if (before < kLeastBefore) return false;
  return (count_ >= kRecent && far(kRecent, kRecentDistance)) || far(kFew, kFewDistance);
}

void ShiftTest::archive(StateArchive& archive) {
  archive.packed(edges_, 1.0f);
  for (std::uint32_t& count : before_) {
    std::size_t wide = count;
    archive.index(wide, std::uint64_t{1} << 32);
    count = static_cast<std::uint32_t>(wide);
  }
  for (std::uint8_t& bin : ring_) {
    std::size_t wide = bin;
    archive.index(wide, kBins);
    bin = static_cast<std::uint8_t>(wide);
  }
  archive.word(count_);
  archive.word(known_);
  if (archive.reading() && known_ > kMostKnown) archive.refuse();
}

// Whether the last `recent` samples are far from those before the last kRecent.
bool ShiftTest::far(std::size_t recent, double threshold) const {
  std::array<std::uint32_t, kBins> now{};
  for (std::size_t i = 0; i < recent; ++i) ++now[ring_[(count_ - 1 - i) % kRecent]];
  const auto few = static_cast<double>(recent);
  const auto known = static_cast<double>(known_);
  const double many = known + static_cast<double>(count_ > kRecent ? count_ - kRecent : 0);
  double distance = 0.0, difference = 0.0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    const double before = static_cast<double>(before_[bin]) + known / kBins;
    difference += static_cast<double>(now[bin]) / few - before / many;
    distance = std::max(distance, std::abs(difference));
  }
  return distance > threshold * std::sqrt(1.0 / few + 1.0 / many);
}

bool AuditTest::add(bool differs, double expected) {
  sum_ = std::max(0.0, sum_ + (differs ? std::log(kRatio) : 0.0) - (kRatio - 1.0) * expected);
  return sum_ > kAlarm;
}

void PriorTest::begin(const AuditRows& rows) {
  known_ = rows.size();
  for (std::size_t exit = 0; exit < edges_.size(); ++exit) {
    edges_[exit] = ShiftTest::edges_of(rows, exit);
  }
}

bool PriorTest::add(std::span<const float> row) {
  if (!begun() || rows_ >= kMost) return false;
  ++rows_;
  for (std::size_t exit = 0; exit < row.size(); ++exit) {
    Seen& seen = seen_[exit];
    ++seen.bins[ShiftTest::bin_of(edges_[exit], std::abs(row[exit]))];
    seen.differing += std::signbit(row[exit]) ? 1 : 0;
  }
  return rows_ % kEvery == 0;
}

bool PriorTest::unlike(const AuditRows& rows) const {
  if (rows_ < kFirst) return false;
  double count = 0.0, sum = 0.0, squares = 0.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!rows.held_out(row)) continue;
    const auto weight = static_cast<double>(rows.weight()[row]);
    count += 1.0;
    sum += weight;
    squares += weight * weight;
  }
  const double effective = squares > 0.0 ? sum * sum / squares : 0.0;
  if (effective < kLeastEffective * count) return true;
  for (std::size_t exit = 0; exit < edges_.size(); ++exit) {
    if (far(rows, exit, sum, effective)) return true;
  }
  return false;
}

bool PriorTest::far(const AuditRows& rows, std::size_t exit, double sum, double effective) const {
  std::array<double, ShiftTest::kBins> held_out{};
  double differing = 0.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!rows.held_out(row)) continue;
    const double share = static_cast<double>(rows.weight()[row]) / sum;
    held_out[ShiftTest::bin_of(edges_[exit], rows.confidence(exit)[row])] += share;
    differing += share * static_cast<double>(rows.differs(exit)[row]);
  }
  const auto count = static_cast<double>(rows_);
  const Seen& seen = seen_[exit];
  double distance = 0.0, difference = 0.0;
  for (std::size_t bin = 0; bin < ShiftTest::kBins; ++bin) {
    difference += static_cast<double>(seen.bins[bin]) / count - held_out[bin];
    distance = std::max(distance, std::abs(difference));
  }
  const double expected = differing * count;
  const bool differs_more =
      static_cast<double>(seen.differing) > expected + kMoreDiffering * std::sqrt(expected + 1.0);
  return differs_more || distance > kPriorDistance * std::sqrt(1.0 / count + 1.0 / effective);
}

void PriorTest::archive(StateArchive& archive) {
  archive.word(rows_);
  const auto count = [&](std::uint32_t& value) {
    std::size_t wide = value;
    archive.index(wide, kMost + 1);
    value = static_cast<std::uint32_t>(wide);
  };
  for (Seen& seen : seen_) {
    for (std::uint32_t& bin : seen.bins) count(bin);
    count(seen.differing);
  }
  if (archive.reading() && rows_ > kMost) archive.refuse();
}

bool FeedbackTest::add(bool wrong) {
  // One wrong answer more: a share of 0 would make the first one an alarm.
  const double expected = static_cast<double>(wrong_ + 1) / static_cast<double>(given_ + 1);
  ++given_;
  wrong_ += wrong ? 1 : 0;
  return given_ > kLeastFeedback && test_.add(wrong, std::min(1.0, expected));
}

void FeedbackTest::archive(StateArchive& archive) {
  test_.archive(archive);
  archive.word(given_);
  archive.word(wrong_);
  if (archive.reading() && wrong_ > given_) archive.refuse();
}

}  // namespace splitee::policy

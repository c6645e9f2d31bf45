#include "policy/learners/audit_rows.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/rng.h"

namespace splitee::policy {

AuditRows::AuditRows(std::size_t exits)
    : exits_(exits),
      confidence_(exits * kCapacity),
      differs_(exits * kCapacity),
      order_(exits * kCapacity),
      weight_(kCapacity),
      kind_(kCapacity),
      row_(exits + 2) {}

double AuditRows::total_weight() const {
  double sum = 0.0;
  for (const float weight : weight()) sum += static_cast<double>(weight);
  return sum;
}

void AuditRows::scale_weights(float factor) {
  for (float& weight : std::span(weight_.data(), size_)) weight *= factor;
}

void AuditRows::remove_from_order(std::size_t exit, std::size_t place) {
  const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(exit * kCapacity);
  const auto end = begin + static_cast<std::ptrdiff_t>(size_);
  const auto at = std::find(begin, end, static_cast<std::uint16_t>(place));
  std::copy(at + 1, end, at);
}

std::size_t AuditRows::take_place() {
  if (size_ < kCapacity) return size_++;
  const std::size_t place = oldest_;
  oldest_ = (oldest_ + 1) % kCapacity;
  for (std::size_t exit = 0; exit < exits_; ++exit) remove_from_order(exit, place);
  return place;
}

// A row without one like it gives way to any complete one; kCapacity where there is none.
std::size_t AuditRows::donor(std::span<const float> seen, std::size_t from,
                             std::size_t place) const {
  const float confidence = std::abs(seen[from]);
  const float differs = std::signbit(seen[from]) ? 1.0f : 0.0f;
  std::size_t best = kCapacity;
  float least = 4.0f;
  for (std::size_t row = 0; row < size_; ++row) {
    if (row == place || kind_[row] == Kind::kPartial) continue;
    const std::size_t at = from * kCapacity + row;
    const float gap = std::abs(confidence_[at] - confidence) + (differs_[at] != differs ? 2 : 0);
    if (gap < least) {
      least = gap;
      best = row;
    }
  }
  return best;
}

void AuditRows::put(std::size_t exit, std::size_t place, float signed_confidence) {
  const float confidence = std::abs(signed_confidence);
  const float* const column = &confidence_[exit * kCapacity];
  confidence_[exit * kCapacity + place] = confidence;
  differs_[exit * kCapacity + place] = std::signbit(signed_confidence) ? 1.0f : 0.0f;
  const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(exit * kCapacity);
  const auto end = begin + static_cast<std::ptrdiff_t>(size_ - 1);
  const auto at = std::partition_point(begin, end, [&](std::uint16_t row) {
    return column[row] > confidence || (column[row] == confidence && row < place);
  });
  std::copy_backward(at, end, end + 1);
  *at = static_cast<std::uint16_t>(place);
}

void AuditRows::scale_held_out(float factor) {
  for (std::size_t row = 0; row < size_; ++row) {
    if (kind_[row] == Kind::kHeldOut) weight_[row] *= factor;
  }
}

void AuditRows::add(std::span<const float> seen, std::size_t from, float weight, Kind kind) {
  const std::size_t place = take_place();
  const std::size_t like = from > 0 ? donor(seen, from, place) : kCapacity;
  for (std::size_t exit = 0; exit < exits_; ++exit) {
    float value = exit < from ? 0.0f : seen[exit];
    if (exit < from && like < kCapacity) {
      const std::size_t at = exit * kCapacity + like;
      value = differs_[at] != 0.0f ? -confidence_[at] : confidence_[at];
    }
    put(exit, place, value);
  }
  set_weight(place, weight);
  kind_[place] = kind;
}

void AuditRows::write_row(StateArchive& archive, std::size_t place) {
  for (std::size_t exit = 0; exit < exits_; ++exit) {
    const std::size_t at = exit * kCapacity + place;
    row_[exit] = differs_[at] != 0.0f ? -confidence_[at] : confidence_[at];
  }
  row_[exits_] = weight_[place];
  row_[exits_ + 1] = static_cast<float>(kind_[place]);
  archive.packed(row_, kLargestWeight);
}

void AuditRows::read_row(StateArchive& archive) {
  archive.packed(row_, kLargestWeight);
  if (archive.failed()) return;
  const float kind = row_[exits_ + 1];
  const bool sound = std::ranges::all_of(std::span(row_.data(), exits_),
                                         [](float value) { return value <= 1.0f; }) &&
                     row_[exits_] >= 0.0f && (kind == 0.0f || kind == 1.0f || kind == 2.0f);
  if (!sound) return archive.refuse();
  add(std::span<const float>(row_.data(), exits_), 0, row_[exits_], static_cast<Kind>(kind));
}

std::uint64_t AuditRows::rows_hash() const {
  std::uint64_t hash = 0;
  for (std::size_t exit = 0; exit < exits_; ++exit) {
    for (const auto* values : {&confidence_, &differs_}) {
      const auto held = std::span(*values).subspan(exit * kCapacity, size_);
      hash = mix_seed(hash ^ content_hash(std::as_bytes(held)));
    }
  }
  return hash;
}

void AuditRows::archive_weights(StateArchive& archive) {
  std::size_t count = size_;
  const std::uint64_t own = rows_hash();
  std::uint64_t hash = own;
  archive.index(count, kCapacity + 1);
  archive.word(hash);
  if (archive.failed()) return;
  if (count != size_ || hash != own) size_ = 0;
  archive.packed(std::span(weight_.data(), count), kLargestWeight);
  if (archive.failed()) return;
  if (size_ > 0 && std::ranges::min(weight()) < 0.0f) archive.refuse();
}

void AuditRows::archive(StateArchive& archive) {
  std::size_t count = size_, oldest = oldest_;
  archive.index(count, kCapacity + 1);
  archive.index(oldest, kCapacity);
  if (!archive.reading()) {
    for (std::size_t place = 0; place < size_; ++place) write_row(archive, place);
    return;
  }
  if (archive.failed()) return;
  if (oldest > 0 && count < kCapacity) return archive.refuse();
  size_ = oldest_ = 0;
  for (std::size_t i = 0; i < count && !archive.failed(); ++i) read_row(archive);
  oldest_ = oldest;
}

}  // namespace splitee::policy

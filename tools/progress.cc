#include "tools/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

namespace splitee::tools {

namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr std::uint64_t kBarWidth = 40;

}  // namespace

void Progress::update(std::uint64_t done, std::uint64_t total, std::uint64_t samples) {
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < kInterval) return;
  last_ = now;
  drawn_ = true;
  if (total == 0) {
    fmt::print(stderr, "\r{} samples", samples);
  } else {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto full = static_cast<std::uint64_t>(share * static_cast<double>(kBarWidth));
    fmt::print(stderr, "\r[{:=<{}}{:{}}] {:3.0f} %  {} samples", "", full, "", kBarWidth - full,
               100 * share, samples);
  }
  std::fflush(stderr);
}

void Progress::finish() {
  if (drawn_) fmt::print(stderr, "\r{:{}}\r", "", kBarWidth + 40);
  drawn_ = false;
}

}  // namespace splitee::tools

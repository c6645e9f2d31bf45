#include "tools/progress.h"

#include <algorithm>
#include <string>

#include "tools/console.h"

namespace splitee::tools {

namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr std::size_t kBarWidth = 40;

}  // namespace

void Progress::update(std::uint64_t done, std::uint64_t total, std::uint64_t samples) {
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < kInterval) return;
  last_ = now;
  drawn_ = true;
  if (total == 0) {
    print_message(fmt::format("\r{} samples", samples));
    return;
  }
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto full = static_cast<std::size_t>(share * static_cast<double>(kBarWidth));
  print_message(fmt::format("\r[{}{}] {:3.0f} %  {} samples", std::string(full, '='),
                            std::string(kBarWidth - full, ' '), 100 * share, samples));
}

void Progress::finish() {
  if (drawn_) print_message("\r" + std::string(kBarWidth + 40, ' ') + "\r");
  drawn_ = false;
}

}  // namespace splitee::tools

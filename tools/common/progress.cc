#include "tools/common/progress.h"

#include <algorithm>

#include <unistd.h>

#include "tools/common/console.h"

namespace splitee::tools {

namespace {

constexpr std::chrono::milliseconds kRedraw{100};
constexpr std::chrono::seconds kLine{10};
constexpr std::size_t kBarWidth = 24;

std::string time_left(double seconds) {
  const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{} h {} min left", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{} min {} s left", whole / 60, whole % 60);
  return fmt::format("{} s left", whole);
}

}  // namespace

std::string progress_text(std::uint64_t done, std::uint64_t total, std::uint64_t count,
                          std::string_view what, double seconds) {
  if (total == 0) return fmt::format("{} {}", count, what);
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const auto full = static_cast<std::size_t>(share * static_cast<double>(kBarWidth));
  std::string text = fmt::format("[{}{}] {:3.0f} %  {} {}", std::string(full, '='),
                                 std::string(kBarWidth - full, ' '), 100 * share, count, what);
  // Not before there is something to judge by.
  if (share > 0 && share < 1 && seconds >= 1) {
    text += ", " + time_left(seconds * (1 - share) / share);
  }
  return text;
}

Progress::Progress(Shown shown, std::string_view what)
    : what_(what),
      terminal_(::isatty(STDERR_FILENO) == 1),
      shown_(shown == Shown::kAlways || (shown == Shown::kIfWatched && terminal_)),
      begin_(Clock::now()),
      next_(terminal_ ? begin_ : begin_ + kLine) {}

void Progress::update(std::uint64_t done, std::uint64_t total, std::uint64_t count) {
  if (!shown_) return;
  const auto now = Clock::now();
  if (now < next_) return;
  const std::chrono::duration<double> passed = now - begin_;
  std::string text = progress_text(done, total, count, what_, passed.count());
  if (!terminal_) {
    next_ = now + kLine;
    print_message(text + "\n");
    return;
  }
  next_ = now + kRedraw;
  const std::size_t length = text.size();
  if (length < drawn_) text.append(drawn_ - length, ' ');
  drawn_ = length;
  print_message("\r" + text);
}

void Progress::finish() {
  if (drawn_ > 0) print_message("\r" + std::string(drawn_, ' ') + "\r");
  drawn_ = 0;
}

}  // namespace splitee::tools

#include "tools/edge/state_file.h"

#include <span>
#include <system_error>
#include <thread>
#include <utility>

#include <sys/stat.h>

#include "tools/common/console.h"

namespace splitee::tools {

namespace {

constexpr std::size_t kMaxStateBytes = 16 << 20;
constexpr std::uint64_t kSaveSamples = 1000;
constexpr std::chrono::seconds kSaveInterval{5};
constexpr std::chrono::milliseconds kLook{100};

}  // namespace

StateFile::StateFile(std::string path, policy::Policy& policy)
    : path_(std::move(path)), policy_(policy), last_save_(std::chrono::steady_clock::now()) {}

Status StateFile::load() {
  if (path_.empty()) return {};
  struct stat info;
  const bool existed = ::stat(path_.c_str(), &info) == 0;
  Result<OwnedFile> file = OwnedFile::open(path_);
  if (!file.ok()) return not_usage(file.status());
  file_ = std::make_shared<OwnedFile>(std::move(*file));
  Result<std::string> bytes = file_->read(kMaxStateBytes);
  if (!bytes.ok()) return not_usage(bytes.status());
  if (bytes->empty()) {
    if (existed) note_ = path_ + ": is empty; the policy starts anew";
    return {};
  }
  const Status status = policy_.load_state(*bytes);
  loaded_ = status.ok();
  if (status.ok()) return status;
  return Status(Code::kCorrupt, path_ + ": " + status.message());
}

std::optional<std::string> StateFile::take_note() {
  return std::exchange(note_, std::nullopt);
}

Status StateFile::sample_done() {
  if (!file_) return {};
  ++unsaved_samples_;
  const std::optional<Status> before = saved(std::chrono::milliseconds(0));
  const bool due = unsaved_samples_ >= kSaveSamples ||
                   std::chrono::steady_clock::now() - last_save_ >= kSaveInterval;
  if (due && !saving_.valid()) begin_save();
  if (!before) return {};
  const bool was_failing = std::exchange(failing_, !before->ok());
  return was_failing ? Status() : *before;
}

Status StateFile::finish(const std::function<bool()>& gives_up) {
  if (!file_) return {};
  const auto wait = [&] {
    std::optional<Status> status;
    while (!status && !gives_up()) status = saved(kLook);
    return status.value_or(Status(Code::kIo, path_ + ": the disk does not answer"));
  };
  // The one on its way is superseded, whatever comes of it, but cannot be overtaken.
  if (saving_.valid()) {
    const Status before = wait();
    if (saving_.valid()) return before;
  }
  begin_save();
  return wait();
}

std::optional<Status> StateFile::saved(std::chrono::milliseconds most) {
  if (!saving_.valid() || saving_.wait_for(most) != std::future_status::ready) return std::nullopt;
  const Status status = saving_.get();
  if (file_->in_place() && !std::exchange(in_place_told_, true)) {
    note_ = path_ + ": nothing can be put in its place, so it is written into as it is; a crash " +
            "while that happens leaves it damaged. Mount its folder instead of the file";
  }
  return status;
}

void StateFile::begin_save() {
  unsaved_samples_ = 0;
  last_save_ = std::chrono::steady_clock::now();
  const auto write = std::make_shared<std::packaged_task<Status()>>(
      [file = file_, bytes = policy_.save_state()]() mutable {
        // Let go before the outcome is known: who waits for that may open the file anew.
        const std::shared_ptr<OwnedFile> own = std::move(file);
        return own->replace(std::as_bytes(std::span(bytes)));
      });
  saving_ = write->get_future();
  try {
    std::thread([write] { (*write)(); }).detach();
  } catch (const std::system_error&) {  // no thread to be had
    (*write)();
  }
}

}  // namespace splitee::tools

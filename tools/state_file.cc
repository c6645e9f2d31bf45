#include "tools/state_file.h"

#include <cerrno>
#include <span>

#include <sys/stat.h>

#include "runtime/file.h"
#include "tools/console.h"

namespace splitee::tools {

using runtime::Result;
using runtime::Status;

namespace {

constexpr std::size_t kMaxStateBytes = 16 << 20;
constexpr std::uint64_t kSaveSamples = 1000;
constexpr std::chrono::seconds kSaveInterval{5};

}  // namespace

StateFile::StateFile(std::string path, policy::Policy& policy)
    : path_(std::move(path)), policy_(policy), last_save_(std::chrono::steady_clock::now()) {}

Status StateFile::load() {
  struct stat info;
  if (path_.empty() || (::stat(path_.c_str(), &info) != 0 && errno == ENOENT)) return {};
  Result<std::string> bytes = runtime::read_file(path_, kMaxStateBytes);
  if (!bytes.ok()) return not_usage(bytes.status());
  const Status status = policy_.load_state(*bytes);
  if (status.ok()) return status;
  return Status(runtime::Code::kCorrupt, path_ + ": " + status.message());
}

Status StateFile::sample_done() {
  if (path_.empty()) return {};
  ++unsaved_samples_;
  if (unsaved_samples_ < kSaveSamples &&
      std::chrono::steady_clock::now() - last_save_ < kSaveInterval) {
    return {};
  }
  const bool was_failing = failing_;
  const Status status = save();
  failing_ = !status.ok();
  return was_failing ? Status() : status;
}

Status StateFile::save() {
  if (path_.empty()) return {};
  unsaved_samples_ = 0;
  last_save_ = std::chrono::steady_clock::now();
  const std::string bytes = policy_.save_state();
  return runtime::write_file_atomically(path_, std::as_bytes(std::span(bytes)));
}

}  // namespace splitee::tools

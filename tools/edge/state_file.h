// Keeps a policy's learned state in a file that no other process uses meanwhile: loaded at start
// where it holds one, saved atomically at intervals and at the end. A save that fails while running
// is reported once and tried again at the next interval; classification goes on. A thread of its
// own writes, so that nothing waits for a disk that does not answer.
// Thread rule: one thread at a time. The policy must outlive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>

#include "base/owned_file.h"
#include "base/status.h"
#include "policy/policy.h"

namespace splitee::tools {

class StateFile {
 public:
  // Without a path it does nothing.
  StateFile(std::string path, policy::Policy& policy);

  // Fails if the file is damaged, unreadable, of another policy or in use by another process, or
  // cannot be made. An empty one is a fresh start.
  Status load();
  // What people should know of the last load() or save(); said once.
  std::optional<std::string> take_note();
  // Called after every sample; begins to save every 1000 samples or 5 seconds, unless the save
  // before is still on its way. Fails only the first time that saving fails, and again after it has
  // worked in between.
  Status sample_done();
  // The last save. Waits for it until `gives_up` says so, which is asked ten times a second; what
  // the file held before then stays.
  Status finish(const std::function<bool()>& gives_up);
  // Whether load() found a state.
  bool loaded() const { return loaded_; }

 private:
  std::string path_;
  policy::Policy& policy_;
  // A save that was begun has ended; waits at most `most`. The outcome, or nothing.
  std::optional<Status> saved(std::chrono::milliseconds most);
  void begin_save();

  std::uint64_t unsaved_samples_ = 0;
  std::chrono::steady_clock::time_point last_save_;
  bool failing_ = false;
  bool loaded_ = false;
  // Shared with the thread that writes, which a disk may hold beyond the end of this object.
  std::shared_ptr<OwnedFile> file_;
  std::future<Status> saving_;  // valid while a save is on its way
  std::optional<std::string> note_;
  bool in_place_told_ = false;
};

}  // namespace splitee::tools

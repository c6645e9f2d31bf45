// Keeps a policy's learned state in a file: loaded at start where the file exists, saved
// atomically at intervals and at the end. A save that fails while running is reported once and
// tried again at the next interval; classification goes on.
// Thread rule: one thread at a time. The policy must outlive it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "policy/policy.h"
#include "runtime/status.h"

namespace splitee::tools {

class StateFile {
 public:
  // Without a path it does nothing.
  StateFile(std::string path, policy::Policy& policy);

  // Fails if the file is damaged, unreadable or of another policy.
  runtime::Status load();
  // Called after every sample; saves every 1000 samples or 5 seconds. Fails only the first time
  // that saving fails, and again after it has worked in between.
  runtime::Status sample_done();
  runtime::Status save();

 private:
  std::string path_;
  policy::Policy& policy_;
  std::uint64_t unsaved_samples_ = 0;
  std::chrono::steady_clock::time_point last_save_;
  bool failing_ = false;
};

}  // namespace splitee::tools

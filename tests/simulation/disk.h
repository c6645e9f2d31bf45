// The disk of an edge, as a power cut leaves it: of what was not synced, any part may be there. The
// steps in which a state replaces the one before are those of base/owned_file.cc (that it takes
// these steps is tested in tests/base/power_cut_test.cc), and between any two of them the process
// or the machine may end.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simulation/world.h"

namespace splitee::simulation {

class Disk {
 public:
  explicit Disk(World& world) : world_(world) {}

  // Bytes that one write may take before the disk is full.
  std::size_t room = static_cast<std::size_t>(-1);

  // Writes from `at` on, into a new file where there is none. False where the disk is full; what
  // fits is written.
  bool write(const std::string& name, std::size_t at, std::string_view bytes);
  void cut(const std::string& name, std::size_t bytes);
  void sync(const std::string& name);
  void rename(const std::string& from, const std::string& to);
  void remove(const std::string& name);
  void sync_folder();
  void power_cut();
  std::optional<std::string> read(const std::string& name) const;
  std::size_t bytes() const;

 private:
  struct File {
    std::string now, synced;
  };
  using Names = std::map<std::string, std::shared_ptr<File>>;
  std::string torn(const File& file);

  World& world_;
  Names names_;
  // As they were after each change since the last sync of the folder; the first are those synced.
  std::vector<Names> history_{1};
};

// A state that was given to the disk, and what was true when it was made.
struct Saved {
  std::string bytes;
  std::uint64_t model_hash = 0, learned = 0, rejected = 0, planned = 0, differing = 0;
  bool certificate_broken = false;
};

class StateKeeper {
 public:
  // `in_place`: nothing can be put in the file's place, so it is written into.
  StateKeeper(World& world, bool in_place) : world_(world), disk_(world), in_place_(in_place) {}

  Disk& disk() { return disk_; }
  bool in_place() const { return in_place_; }
  // Unless one is on its way.
  void begin(Saved saved);
  // The process ends, with a power cut or without one.
  void end(bool power_cut);
  std::optional<std::string> read() const { return disk_.read("state"); }
  // Which of the states that may be there these bytes are; null where they are none of them.
  const Saved* find(std::string_view bytes) const;
  bool must_exist() const { return synced_; }
  // Of memory, for what is on the disk: none of the edge's.
  std::size_t bytes() const;
  // Moved away, to begin anew.
  void clear();

 private:
  void step(std::size_t number, std::uint64_t save);
  void next(std::size_t number, std::uint64_t save);

  World& world_;
  Disk disk_;
  bool in_place_;
  bool saving_ = false, synced_ = false;
  std::uint64_t save_ = 0;  // counts
  // The last one known to be on the disk (where synced_), and those begun since.
  std::vector<Saved> possible_;
};

}  // namespace splitee::simulation

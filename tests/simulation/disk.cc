#include "tests/simulation/disk.h"

#include <algorithm>
#include <set>

namespace splitee::simulation {
namespace {

constexpr std::size_t kBlock = 512;  // kept whole or not at all; a write may also end within one
constexpr std::int64_t kStepUs = 3'000;
const std::string kState = "state", kTemporary = "state.tmp";

}  // namespace

bool Disk::write(const std::string& name, std::size_t at, std::string_view bytes) {
  auto& file = names_[name];
  if (!file) {
    file = std::make_shared<File>();
    history_.push_back(names_);
  }
  const std::string_view fits = bytes.substr(0, room);
  if (file->now.size() < at + fits.size()) file->now.resize(at + fits.size());
  file->now.replace(at, fits.size(), fits);
  return fits.size() == bytes.size();
}

void Disk::cut(const std::string& name, std::size_t bytes) {
  names_.at(name)->now.resize(bytes);
}

void Disk::sync(const std::string& name) {
  const auto& file = names_.at(name);
  file->synced = file->now;
}

void Disk::rename(const std::string& from, const std::string& to) {
  names_[to] = names_.at(from);
  names_.erase(from);
  history_.push_back(names_);
}

void Disk::remove(const std::string& name) {
  if (names_.erase(name) > 0) history_.push_back(names_);
}

void Disk::sync_folder() {
  history_.assign(1, names_);
}

// Blocks reach the disk in any order, and the last one in part.
std::string Disk::torn(const File& file) {
  std::string left = file.synced;
  if (file.now == file.synced) return left;
  const std::size_t end = world_.rng().below(static_cast<std::uint32_t>(file.now.size() + 1));
  const double kept = world_.chance(0.5) ? 1.0 : world_.rng().uniform();
  for (std::size_t at = 0; at < end; at += kBlock) {
    if (!world_.chance(kept)) continue;
    const std::string_view block =
        std::string_view(file.now).substr(at, std::min(kBlock, end - at));
    if (left.size() < at + block.size()) left.resize(at + block.size());
    left.replace(at, block.size(), block);
  }
  return left;
}

void Disk::power_cut() {
  names_ = history_[world_.rng().below(static_cast<std::uint32_t>(history_.size()))];
  for (const auto& [name, file] : names_) file->now = file->synced = torn(*file);
  history_.assign(1, names_);
}

std::optional<std::string> Disk::read(const std::string& name) const {
  const auto it = names_.find(name);
  return it == names_.end() ? std::nullopt : std::optional<std::string>(it->second->now);
}

std::size_t Disk::bytes() const {
  std::set<const File*> files;
  for (const Names& names : history_) {
    for (const auto& [name, file] : names) files.insert(file.get());
  }
  std::size_t sum = 0;
  for (const File* file : files) sum += file->now.capacity() + file->synced.capacity();
  return sum;
}

std::size_t StateKeeper::bytes() const {
  std::size_t sum = disk_.bytes();
  for (const Saved& saved : possible_) sum += saved.bytes.capacity();
  return sum;
}

void StateKeeper::begin(Saved saved) {
  if (saving_) return;
  saving_ = true;
  possible_.push_back(std::move(saved));
  next(0, ++save_);
}

void StateKeeper::next(std::size_t number, std::uint64_t save) {
  world_.after(world_.around(kStepUs), [this, number, save] {
    if (saving_ && save == save_) step(number, save);
  });
}

void StateKeeper::step(std::size_t number, std::uint64_t save) {
  const std::string& bytes = possible_.back().bytes;
  const std::string& written = in_place_ ? kState : kTemporary;
  const std::size_t half = bytes.size() / 2;
  bool room = true;
  switch (number) {
    case 0:
      room = disk_.write(written, 0, std::string_view(bytes).substr(0, half));
      break;
    case 1:
      room = disk_.write(written, half, std::string_view(bytes).substr(half));
      break;
    case 2:
      disk_.sync(written);
      break;
    case 3:
      in_place_ ? disk_.cut(kState, bytes.size()) : disk_.rename(kTemporary, kState);
      break;
    default:
      disk_.sync_folder();
      // Written into, a file may be torn by each save, and be none of those before.
      synced_ = !in_place_;
      possible_.erase(possible_.begin(), possible_.end() - 1);
      saving_ = false;
      return;
  }
  if (room) return next(number + 1, save);
  world_.note("disk full", save);
  saving_ = false;
  if (!in_place_) disk_.remove(kTemporary);
}

void StateKeeper::end(bool power_cut) {
  saving_ = false;
  if (power_cut) disk_.power_cut();
  disk_.remove(kTemporary);  // as the next process does
}

const Saved* StateKeeper::find(std::string_view bytes) const {
  // The newest first: two may have the same bytes.
  const auto it = std::find_if(possible_.rbegin(), possible_.rend(),
                               [&](const Saved& saved) { return saved.bytes == bytes; });
  return it == possible_.rend() ? nullptr : &*it;
}

void StateKeeper::clear() {
  disk_.remove(kState);
  disk_.sync_folder();
  possible_.clear();
  synced_ = false;
}

}  // namespace splitee::simulation

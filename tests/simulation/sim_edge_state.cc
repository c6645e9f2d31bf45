// What an edge keeps on its disk, what the next process finds of it, and what its policy's state
// and certificate have to be.
#include <bit>
#include <cmath>
#include <span>

#include "base/hash.h"
#include "policy/state.h"
#include "tests/simulation/sim_edge.h"

namespace splitee::simulation {
namespace {

using policy::Outcome;
using policy::Route;

std::uint64_t hash_of(const std::string& bytes) {
  return content_hash(std::as_bytes(std::span(bytes)));
}

// As a state of the format before, whole.
std::string of_other_format(std::string bytes) {
  constexpr std::size_t kVersionAt = 8, kHashBytes = 8;
  --bytes[kVersionAt];
  bytes.resize(bytes.size() - kHashBytes);
  const std::uint64_t hash = hash_of(bytes);
  for (std::size_t i = 0; i < kHashBytes; ++i) bytes += static_cast<char>(hash >> (8 * i));
  return bytes;
}

}  // namespace

void SimEdge::save(std::size_t room) {
  Saved saved{policy_->save_state(), policy_options_.model_hash, learned_, rejected_, 0, differing_,
              certificate_broken_};
  if (const auto report = policy_->disagreement()) saved.planned = report->samples;
  state_.disk().room = room;
  state_.begin(std::move(saved));
}

void SimEdge::crash(End end) {
  world_.note("crash", id_, static_cast<std::uint64_t>(end));
  ++tally_.crashes;
  restart(end);
}

void SimEdge::upgrade(int version, std::uint64_t model_hash) {
  world_.note("upgrade", id_, static_cast<std::uint64_t>(version), model_hash);
  version_ = version;
  options_.client.model_hash = policy_options_.model_hash = model_hash;
  restart(End::kKilled);
}

void SimEdge::restart(End end) {
  tally_.lost_by_crash += open_.size();
  open_.clear();
  for (const ConnectionPtr& connection : connections_) {
    if (connection) fabric_.close_client(connection);
  }
  state_.end(end == End::kPowerCut);
  new_process();
  std::optional<std::string> bytes = state_.read();
  world_.require(bytes || !state_.must_exist(), "I7: a state that was saved is there", id_);
  if (bytes && !bytes->empty()) {
    if (end == End::kDamaged) {
      char& byte = (*bytes)[world_.rng().below(static_cast<std::uint32_t>(bytes->size()))];
      byte = static_cast<char>(byte ^ (1 << world_.rng().below(8)));
    }
    const bool changed = end == End::kDamaged || end == End::kOtherFormat;
    // One that is torn already is none of any format.
    if (end == End::kOtherFormat && state_.find(*bytes) != nullptr) {
      bytes = of_other_format(std::move(*bytes));
    }
    restore(*bytes, changed);
  }
  pump();
}

void SimEdge::restore(const std::string& bytes, bool changed) {
  const Saved* saved = state_.find(bytes);
  world_.require(saved != nullptr || changed || state_.in_place(),
                 "I7: the old state or the new one, and no mixture", id_);
  const bool fits = saved != nullptr && saved->model_hash == policy_options_.model_hash;
  const std::string fresh = fits ? "" : policy_->save_state();
  const bool loaded = policy_->load_state(bytes).ok();
  world_.require(loaded == fits, "I7: a whole state is taken, any other one refused", id_);
  if (!loaded) {
    world_.require(policy_->save_state() == fresh, "I7: a refused state leaves no trace", id_);
    return state_.clear();
  }
  ++tally_.restored;
  learned_ = saved->learned;
  rejected_ = saved->rejected;
  differing_ = saved->differing;
  certificate_broken_ = saved->certificate_broken;
  const auto report = policy_->disagreement();
  // Audits that were on their way are counted by the reader: the bytes need not be the same.
  const bool same = report ? report->samples == saved->planned : policy_->save_state() == bytes;
  world_.require(same, "I7: the state is the one that was saved", id_);
  policy_->restarted(std::uint64_t{world_.rng().next()} << 32 | world_.rng().next() | 1);
  if (audits_) {
    world_.require(restarts_.insert(hash_of(policy_->save_state())).second,
                   "I10: a state that is restored again draws other coins", id_);
  }
}

// The bound never falls: it can be overstepped only where an answer differs, and not while it was
// higher before.
void SimEdge::count_answer(const Sample& sample) {
  const Outcome& outcome = sample.episode.outcome;
  const std::size_t arm = outcome.route == Route::kExit    ? outcome.exit_arm
                          : outcome.route == Route::kAudit ? outcome.would_answer
                                                           : policy::kNoExit;
  if (arm >= kArms - 1 || !stream_.differs(sample.id, arm)) return;
  ++differing_;
  if (static_cast<double>(differing_) <= known_bound_) return;
  const policy::DisagreementReport report = *policy_->disagreement();
  known_bound_ = report.upper * static_cast<double>(report.samples) + 1e-6;
  if (static_cast<double>(differing_) > known_bound_) certificate_broken_ = true;
}

std::optional<Certificate> SimEdge::certificate() const {
  if (!audits_) return std::nullopt;
  return Certificate{options_.level, certificate_broken_};
}

void SimEdge::check_policy() {
  std::string state = policy_->save_state();
  // Taking it checks that every number is finite and in range.
  const auto twin = std::move(*policy::make_policy(options_.policy, policy_options_));
  world_.require(twin->load_state(state).ok(), "I4: a state that was saved is sound", id_);
  if (audits_) {
    // The reader has counted the audits that were on their way: from then on it stays the same.
    state = twin->save_state();
    world_.require(twin->load_state(state).ok(), "I4: a state that was taken is sound", id_);
  }
  world_.require(twin->save_state() == state, "I4: a state is complete", id_);
  const auto body = policy::open_state(state, options_.policy, policy_options_);
  if (options_.policy != "splitee" || !body.ok()) return;
  const auto number = [&](std::size_t index) {
    std::uint64_t bits = 0;
    for (std::size_t i = 8; i-- > 0;)
      bits = bits << 8 | static_cast<unsigned char>((*body)[8 * index + i]);
    return std::bit_cast<double>(bits);
  };
  double pulls = 0;
  for (std::size_t arm = 0; arm < kArms; ++arm) pulls += number(1 + kArms + arm);
  world_.require(pulls == static_cast<double>(learned_), "I4: the pulls are the updates", id_);
  world_.require(number(1 + 2 * kArms) == pulls, "I4: t is the sum of the pulls", id_);
}

}  // namespace splitee::simulation

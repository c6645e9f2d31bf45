#include "tools/splitee/load_run.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <unordered_map>

namespace splitee::tools {
namespace {

using transport::Swarm;

// After the last request, answers are waited for this much longer than the deadline.
constexpr std::int64_t kGraceUs = 2'000'000;
constexpr std::int64_t kGraceAfterStopUs = 300'000;
constexpr std::int64_t kTellEveryUs = 100'000;

struct Pending {
  std::int64_t intended_us = 0;
  std::size_t connection = 0;
  std::size_t deadline = 0;
  bool counted = false;
};

class LoadRun {
 public:
  LoadRun(Swarm& swarm, const LoadPlan& plan) : swarm_(swarm), plan_(plan), random_(plan.seed) {
    result_.good_of.resize(plan.connections);
    for (const std::uint64_t deadline_us : plan.deadlines_us) {
      result_.by_deadline.push_back({.deadline_us = deadline_us, .answered_us = {}});
    }
  }

  LoadResult run() {
    begin_us_ = Swarm::clock_us() + 1'000;
    count_from_us_ = begin_us_ + to_us(plan_.warm_up_seconds);
    const std::int64_t planned_end_us = count_from_us_ + to_us(plan_.seconds);
    double due_us = static_cast<double>(begin_us_);
    std::int64_t end_us = planned_end_us;
    while (due_us < static_cast<double>(end_us)) {
      const auto intended_us = static_cast<std::int64_t>(due_us);
      while (goes_on(planned_end_us) && Swarm::clock_us() < intended_us) {
        receive(std::min(intended_us, Swarm::clock_us() + kTellEveryUs));
      }
      if (stopped_) {
        end_us = Swarm::clock_us();
        break;
      }
      send(intended_us);
      due_us += gap_us();
      // Also under a load without pauses.
      if (++sent_since_receive_ >= kSendsAtOnce) receive(0);
    }
    const std::int64_t last_us =
        end_us + (stopped_
                      ? kGraceAfterStopUs
                      : static_cast<std::int64_t>(std::ranges::max(plan_.deadlines_us)) + kGraceUs);
    while (!pending_.empty() && Swarm::clock_us() < last_us) receive(last_us);
    for (const auto& [id, pending] : pending_) result_.lost += pending.counted;
    result_.seconds =
        static_cast<double>(std::max<std::int64_t>(end_us - count_from_us_, 1)) * 1e-6;
    result_.stopped = stopped_;
    return std::move(result_);
  }

 private:
  static constexpr int kSendsAtOnce = 16;

  bool goes_on(std::int64_t end_us) {
    const std::int64_t now_us = Swarm::clock_us();
    if (!plan_.go_on || now_us < tell_at_us_) return !stopped_;
    tell_at_us_ = now_us + kTellEveryUs;
    stopped_ = stopped_ || !plan_.go_on(now_us - begin_us_, end_us - begin_us_);
    return !stopped_;
  }

  static std::int64_t to_us(double seconds) { return static_cast<std::int64_t>(seconds * 1e6); }

  double gap_us() {
    const double mean_us = 1e6 / plan_.rate;
    return plan_.poisson ? std::exponential_distribution<double>(1 / mean_us)(random_) : mean_us;
  }

  std::size_t next_connection() {
    const double others = static_cast<double>(plan_.connections - 1);
    const double at = std::uniform_real_distribution<double>(0, plan_.flood + others)(random_);
    if (at < plan_.flood) return 0;
    return std::min(plan_.connections - 1, 1 + static_cast<std::size_t>(at - plan_.flood));
  }

  // One deadline takes nothing from the random numbers.
  std::size_t next_deadline() {
    const std::size_t count = plan_.deadlines_us.size();
    return count > 1 ? static_cast<std::size_t>(random_() % count) : 0;
  }

  void send(std::int64_t intended_us) {
    const std::size_t connection = next_connection();
    const std::size_t sample = random_() % plan_.samples;
    const std::size_t deadline = next_deadline();
    const bool counted = intended_us >= count_from_us_;
    result_.intended += counted;
    result_.by_deadline[deadline].intended += counted;
    if (counted) result_.lag_us.add(Swarm::clock_us() - intended_us);
    const std::uint64_t told_us =
        plan_.told_deadline_us != 0 ? plan_.told_deadline_us : plan_.deadlines_us[deadline];
    const auto id = swarm_.send(connection, sample, told_us);
    if (id) {
      pending_[*id] = {intended_us, connection, deadline, counted};
    } else {
      result_.unsent += counted;
    }
  }

  void receive(std::int64_t until_us) {
    sent_since_receive_ = 0;
    swarm_.receive(until_us, [this](const Swarm::Answer& answer) { take(answer); });
  }

  void take(const Swarm::Answer& answer) {
    const auto it = pending_.find(answer.request_id);
    if (it == pending_.end()) return;
    const Pending pending = it->second;
    pending_.erase(it);
    if (!pending.counted) return;
    const std::int64_t latency_us = Swarm::clock_us() - pending.intended_us;
    if (answer.refused) {
      ++result_.refused[std::string(to_string(*answer.refused)) + ": " + answer.text];
      result_.shed_us.add(latency_us);
      return;
    }
    result_.answered_us.add(latency_us);
    result_.server_us.add(answer.server_us);
    (pending.connection == 0 ? result_.flood_us : result_.others_us).add(latency_us);
    DeadlineResult& of = result_.by_deadline[pending.deadline];
    of.answered_us.add(latency_us);
    if (latency_us > static_cast<std::int64_t>(of.deadline_us)) {
      ++result_.late;
      return;
    }
    ++of.good;
    ++result_.good;
    ++result_.good_of[pending.connection];
  }

  Swarm& swarm_;
  const LoadPlan& plan_;
  std::mt19937_64 random_;
  LoadResult result_;
  std::int64_t begin_us_ = 0, count_from_us_ = 0;
  std::int64_t tell_at_us_ = 0;
  bool stopped_ = false;
  int sent_since_receive_ = 0;
  std::unordered_map<std::uint64_t, Pending> pending_;
};

}  // namespace

std::uint64_t LoadResult::sheds() const {
  std::uint64_t sum = 0;
  for (const auto& [reason, count] : refused) sum += count;
  return sum;
}

double LoadResult::fairness() const {
  double sum = 0, squares = 0;
  for (const std::uint64_t count : good_of) {
    sum += static_cast<double>(count);
    squares += static_cast<double>(count) * static_cast<double>(count);
  }
  return squares > 0 ? sum * sum / (static_cast<double>(good_of.size()) * squares) : 1;
}

LoadResult run_load(Swarm& swarm, const LoadPlan& plan) {
  return LoadRun(swarm, plan).run();
}

}  // namespace splitee::tools

// Measures the default learner against the ruler, on streams that are random halves of traces; the
// other half tunes the ruler. Prints a table in Markdown; bench/paper/decision calls it.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "bench/decision/rivals.h"
#include "bench/decision/ruler.h"
#include "bench/decision/run.h"

namespace splitee::bench {
namespace {

constexpr std::size_t kMaxTraceBytes = std::size_t{1} << 30;

struct Flags {
  std::vector<std::string> traces;
  std::vector<double> limits = {0.005, 0.01, 0.02, 0.05};
  std::vector<double> offloads = {-1, 1, 2, 3, 4, 5};
  std::string policy = "audited";
  std::size_t runs = 20, threads = 2, prior = 0, kinds = 1, bootstrap = 0;
  bool head = true, orders = false, rivals = false;
  std::string prior_trace;
  Stream prior_stream;
};

struct Measured {
  RunResult run;
  double over_hull = 0, over_from = 0, excess = 0, excess_whole = 0;
};

// Rows that stand for the model file's: of the half that tunes the ruler, or of another trace.
void add_prior(const Stream& stream, std::span<const std::uint32_t> tune, const Flags& flags,
               policy::PolicyOptions& options) {
  const bool other = flags.prior_stream.exits > 0;
  const Stream& from = other ? flags.prior_stream : stream;
  const std::size_t count = std::min(flags.prior, other ? from.samples() : tune.size());
  options.prior_kinds = flags.kinds;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t sample = other ? i : tune[i];
    for (std::size_t exit = 0; exit < from.exits; ++exit) {
      const float confidence = from.at(sample)[exit];
      options.prior_rows.push_back(from.differs(sample, exit) ? -confidence : confidence);
    }
  }
}

// The order of a run: what tunes the ruler, and the stream.
class Halves {
 public:
  Halves(const Stream& stream, const Flags& flags, std::uint64_t seed)
      : order_(stream.samples()), whole_(flags.orders) {
    const std::size_t length = flags.bootstrap;
    Rng rng(mix_seed(seed));
    std::iota(order_.begin(), order_.end(), 0u);
    shuffle(std::span(order_), rng);
    while (blocks_.size() < length) {
      const std::uint32_t begin = rng.below(
          static_cast<std::uint32_t>(order_.size() - std::min(kBlock, order_.size()) + 1));
      for (std::size_t i = 0; i < kBlock && i < order_.size() && blocks_.size() < length; ++i) {
        blocks_.push_back(begin + static_cast<std::uint32_t>(i));
      }
    }
  }
  std::span<const std::uint32_t> tune() const { return std::span(order_).first(order_.size() / 2); }
  std::span<const std::uint32_t> seen() const {
    if (!blocks_.empty()) return blocks_;
    return whole_ ? std::span<const std::uint32_t>(order_)
                  : std::span<const std::uint32_t>(order_).subspan(order_.size() / 2);
  }

 private:
  static constexpr std::size_t kBlock = 50;  // samples in a row, of a bootstrap

  std::vector<std::uint32_t> order_, blocks_;
  bool whole_;
};

// What a run comes to against the ruler, at E itself.
void compare_at_limit(const Ruled& ruled, double limit, Measured& result) {
  const Point late = result.run.second.mean(), whole = result.run.whole.mean();
  const double beta = ruled.whole_class.slope(limit), least = ruled.whole_class.support(beta);
  const double at_limit = ruled.whole_class.cost(limit);
  result.excess = (late.cost + beta * late.disagreement - least) / at_limit;
  result.excess_whole = (whole.cost + beta * whole.disagreement - least) / at_limit;
}

Measured measure(const Stream& stream, const Prices& prices, const Flags& flags, double limit,
                 std::uint64_t seed, std::span<const std::uint32_t> tune,
                 std::span<const std::uint32_t> seen, const Ruled& ruled) {
  policy::PolicyOptions options = options_for(stream, prices, limit, mix_seed(seed + 1));
  add_prior(stream, tune, flags, options);
  Measured result;
  result.run = run(stream, prices, flags.policy, options, seen);
  const Point late = result.run.second.mean();
  result.over_hull = late.cost / ruled.whole_class.cost(late.disagreement);
  result.over_from = late.cost / ruled.threshold_from.cost(late.disagreement);
  compare_at_limit(ruled, limit, result);
  return result;
}

// One run for every limit: the ruler is the same for all of them.
std::vector<Measured> measure_limits(const Stream& stream, const Prices& prices, const Flags& flags,
                                     std::uint64_t seed) {
  const Halves halves(stream, flags, seed);
  const auto tune = halves.tune(), seen = halves.seen();
  const Ruled ruled = rule(stream, prices, tune, seen);
  std::vector<Measured> results;
  for (const double limit : flags.limits) {
    results.push_back(measure(stream, prices, flags, limit, seed, tune, seen, ruled));
  }
  return results;
}

// Per limit, the runs.
std::vector<std::vector<Measured>> measure_all(const Stream& stream, const Prices& prices,
                                               const Flags& flags) {
  std::vector<std::vector<Measured>> results(flags.limits.size(),
                                             std::vector<Measured>(flags.runs));
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> workers;
  for (std::size_t i = 0; i < flags.threads; ++i) {
    workers.emplace_back([&] {
      for (std::size_t run; (run = next++) < flags.runs;) {
        const std::vector<Measured> row = measure_limits(stream, prices, flags, run);
        for (std::size_t limit = 0; limit < row.size(); ++limit) results[limit][run] = row[limit];
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  return results;
}

void print_row(const std::string& name, double offload, double limit,
               const std::vector<Measured>& results) {
  const auto count = static_cast<double>(results.size());
  const auto mean = [&](const std::function<double(const Measured&)>& value) {
    double sum = 0.0;
    for (const Measured& m : results) sum += value(m);
    return sum / count;
  };
  const auto share = [&](const std::function<bool(const Measured&)>& holds) {
    return 100.0 * mean([&](const Measured& m) { return holds(m) ? 1.0 : 0.0; });
  };
  const std::string cost = offload < 0 ? "none" : std::to_string(static_cast<int>(offload));
  std::printf(
      "| %s | %s | %g | %.0f | %.0f | %.0f | %.2f | %.2f | %.3f | %.3f | %.3f | %.1f | %.1f | %.2f "
      "| "
      "%.0f | %.1f |\n",
      name.c_str(), cost.c_str(), 100 * limit,
      share([](const Measured& m) { return m.run.bound_broken; }),
      share([](const Measured& m) { return m.run.over; }),
      share([&](const Measured& m) { return m.run.second.mean().disagreement > limit; }),
      100 * mean([](const Measured& m) { return m.run.second.mean().disagreement; }),
      mean([&](const Measured& m) { return m.run.second.mean().disagreement / limit; }),
      mean([](const Measured& m) { return m.run.second.mean().cost; }),
      mean([](const Measured& m) { return m.over_hull; }),
      mean([](const Measured& m) { return m.over_from; }),
      100 * mean([](const Measured& m) { return m.excess; }),
      100 * mean([](const Measured& m) { return m.excess_whole; }),
      100 * mean([](const Measured& m) { return m.run.late.audits / m.run.late.cost; }),
      mean([](const Measured& m) { return static_cast<double>(m.run.audited); }),
      100 * mean([](const Measured& m) { return m.run.upper; }));
  std::fflush(stdout);
}

// Of one setting of a rival, over the runs.
struct Summary {
  std::string name, setting;
  double over = 0, over_half = 0, use = 0, excess = 0, whole = 0, audited = 0;
};

constexpr double kOftenOver = 0.12;

// Kept first, then cheap.
bool better(const Summary& a, const Summary& b) {
  const bool a_kept = a.over_half <= kOftenOver, b_kept = b.over_half <= kOftenOver;
  if (a_kept != b_kept) return a_kept;
  return a_kept ? a.whole < b.whole : a.over_half < b.over_half;
}

// One run's results, `share` of the mean over the runs.
void add_runs(const std::vector<Rival>& rivals, const Ruled& ruled, double limit, double share,
              std::vector<Summary>& sums) {
  sums.resize(rivals.size());
  for (std::size_t i = 0; i < rivals.size(); ++i) {
    Measured measured{.run = rivals[i].run};
    compare_at_limit(ruled, limit, measured);
    const double disagreement = measured.run.second.mean().disagreement;
    Summary& sum = sums[i];
    sum.name = rivals[i].name;
    sum.setting = rivals[i].setting;
    sum.over += measured.run.over ? share : 0.0;
    sum.over_half += disagreement > limit ? share : 0.0;
    sum.use += share * disagreement / limit;
    sum.excess += share * measured.excess;
    sum.whole += share * measured.excess_whole;
    sum.audited += share * static_cast<double>(measured.run.audited);
  }
}

// Every rival at the setting that is best over the runs.
void measure_rivals(const std::string& name, const Stream& stream, const Flags& flags) {
  const Prices prices;
  std::vector<std::vector<Summary>> by_limit(flags.limits.size());
  for (std::size_t run = 0; run < flags.runs; ++run) {
    const Halves halves(stream, flags, run);
    const Ruled ruled = rule(stream, prices, halves.tune(), halves.seen());
    const auto rows = halves.tune().first(std::min(flags.prior, halves.tune().size()));
    for (std::size_t i = 0; i < by_limit.size(); ++i) {
      const double limit = flags.limits[i];
      add_runs(run_rivals(stream, prices, limit, rows, halves.seen(), run), ruled, limit,
               1.0 / static_cast<double>(flags.runs), by_limit[i]);
    }
  }
  for (std::size_t at = 0; at < by_limit.size(); ++at) {
    std::vector<Summary>& sums = by_limit[at];
    std::ranges::sort(sums, [](const Summary& a, const Summary& b) {
      return a.name < b.name || (a.name == b.name && better(a, b));
    });
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const Summary& sum = sums[i];
      if (i > 0 && sum.name == sums[i - 1].name) continue;
      std::printf("| %s | %g | %s | %s | %.0f | %.0f | %.2f | %.1f | %.1f | %.0f |\n", name.c_str(),
                  100 * flags.limits[at], sum.name.c_str(), sum.setting.c_str(), 100 * sum.over,
                  100 * sum.over_half, sum.use, 100 * sum.excess, 100 * sum.whole, sum.audited);
    }
    std::fflush(stdout);
  }
}

// Nothing after a message.
std::optional<Stream> read_stream(const std::string& path) {
  const auto text = read_file(path, kMaxTraceBytes);
  if (!text.ok()) {
    std::fprintf(stderr, "decision_bench: %s\n", text.status().message().c_str());
    return std::nullopt;
  }
  const auto trace = policy::parse_trace(*text, path);
  if (!trace.ok()) {
    std::fprintf(stderr, "decision_bench: %s\n", trace.status().message().c_str());
    return std::nullopt;
  }
  return stream_of(*trace);
}

int measure_traces(const Flags& flags) {
  if (flags.head && flags.rivals) {
    std::fputs(
        "| trace | E % | rival | setting | over E ever % | over E 2nd half % | D / E | excess % "
        "| whole run % | audited |\n|---|---|---|---|---|---|---|---|---|---|\n",
        stdout);
  } else if (flags.head) {
    std::fputs(
        "| trace | o | E % | bound broken % | over E ever % | over E 2nd half % | D % | D / E | C "
        "| C / hull | C / from k | excess % | whole run % | audits % | audited | upper % |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        stdout);
  }
  for (const std::string& path : flags.traces) {
    const std::optional<Stream> stream = read_stream(path);
    if (!stream) return 1;
    std::string name = path.substr(path.rfind('/') + 1);
    name = name.substr(0, name.find('.'));
    if (flags.rivals) {
      measure_rivals(name, *stream, flags);
      continue;
    }
    for (const double offload : flags.offloads) {
      const auto results = measure_all(*stream, Prices{.offload = offload}, flags);
      for (std::size_t i = 0; i < results.size(); ++i) {
        print_row(name, offload, flags.limits[i], results[i]);
      }
    }
  }
  return 0;
}

std::vector<double> numbers(const std::string& text) {
  std::vector<double> values;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    values.push_back(std::strtod(text.substr(at, comma - at).c_str(), nullptr));
    at = comma + 1;
  }
  return values;
}

constexpr const char* kUsage =
    "decision_bench [--limits E,...] [--offloads O,...] [--runs N] [--threads N] [--prior ROWS]\n"
    "               [--prior-trace FILE.csv] [--prior-kinds N] [--policy NAME] [--orders] "
    "[--no-head]\n"
    "               [--bootstrap N] [--rivals] TRACE.csv...\n"
    "O in lambda, -1: no server. ROWS of the half that tunes the ruler stand for the model "
    "file's,\nor the first of FILE. --orders: the stream is the whole trace, for short ones. "
    "--bootstrap N:\nN samples, drawn as blocks of 50 in a row from the whole trace.\n"
    "--rivals: published rules at their best settings, without a server, in the learner's place,\n"
    "on one thread; not with --prior-trace.\n";

int decision_main(std::span<char*> words) {
  Flags flags;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string word = words[i];
    const std::string value = i + 1 < words.size() ? words[i + 1] : "";
    if (word == "--no-head") {
      flags.head = false;
      continue;
    }
    if (word == "--rivals") {
      flags.rivals = true;
      continue;
    }
    if (word == "--orders") {
      flags.orders = true;
      continue;
    }
    if (!word.starts_with("--")) {
      flags.traces.push_back(word);
      continue;
    }
    ++i;
    if (word == "--limits") {
      flags.limits = numbers(value);
    } else if (word == "--offloads") {
      flags.offloads = numbers(value);
    } else if (word == "--policy") {
      flags.policy = value;
    } else if (word == "--runs") {
      flags.runs = std::strtoull(value.c_str(), nullptr, 10);
    } else if (word == "--threads") {
      flags.threads = std::strtoull(value.c_str(), nullptr, 10);
    } else if (word == "--prior-trace") {
      flags.prior_trace = value;
    } else if (word == "--bootstrap") {
      flags.bootstrap = std::strtoull(value.c_str(), nullptr, 10);
    } else if (word == "--prior-kinds") {
      flags.kinds = std::max<std::size_t>(std::strtoull(value.c_str(), nullptr, 10), 1);
    } else if (word == "--prior") {
      flags.prior = std::strtoull(value.c_str(), nullptr, 10);
    } else {
      std::fputs(kUsage, stderr);
      return 2;
    }
  }
  const bool ignored = flags.rivals && !flags.prior_trace.empty();
  if (flags.traces.empty() || flags.runs == 0 || flags.threads == 0 || ignored) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (!flags.prior_trace.empty()) {
    const std::optional<Stream> prior = read_stream(flags.prior_trace);
    if (!prior) return 1;
    flags.prior_stream = *prior;
  }
  return measure_traces(flags);
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  return splitee::bench::decision_main({argv, static_cast<std::size_t>(argc)});
}

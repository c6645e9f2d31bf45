#include "bench/peers/compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <thread>

#include <nlohmann/json.hpp>

#include "bench/peak.h"
#include "bench/peers/network.h"
#include "bench/statistics.h"

namespace splitee::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

constexpr std::size_t kCheckedSamples = 4;  // per length
constexpr double kBlockSeconds = 0.04;      // of passes of one side, before it is the other's turn
constexpr std::size_t kMinPasses = 2;
constexpr std::size_t kMinRounds = 5;
constexpr double kCalmShare = 0.01;  // of a block's time, spent waiting for a core

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Side {
  std::string name;
  Network* network;
};

// Probabilities of one side for every sample, one after the other.
std::vector<float> answers(Network& network, const std::vector<Ids>& samples) {
  std::vector<float> result;
  for (const Ids& ids : samples) {
    network.run(ids);
    const std::vector<float> answer = network.probabilities();
    result.insert(result.end(), answer.begin(), answer.end());
  }
  return result;
}

// The largest difference of probabilities, and of their logarithms: for two classes the latter is
// at least half of the difference of the logits.
Json differences(const std::vector<float>& a, const std::vector<float>& b) {
  double probability = 0.0, logarithm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    probability = std::max(probability, std::fabs(x - y));
    logarithm = std::max(logarithm, std::fabs(std::log(x) - std::log(y)));
  }
  return {{"probability", probability}, {"log_probability", logarithm}};
}

Json check(const std::vector<Side>& sides, Network& reference, const std::vector<Ids>& samples) {
  const std::vector<float> exact = answers(reference, samples);
  const auto [low, high] = std::minmax_element(exact.begin(), exact.end());
  Json result = {{"samples", samples.size()}, {"lowest", *low}, {"highest", *high}};
  for (const Side& side : sides) {
    const std::vector<float> answer = answers(*side.network, samples);
    if (answer.size() != exact.size()) {
      std::fprintf(stderr, "peers_bench: %s has another number of exits\n", side.name.c_str());
      std::exit(1);
    }
    result[side.name] = differences(answer, exact);
  }
  return result;
}

// Seconds that this process's threads were ready to run and had no core, so far: what others on the
// machine took from us (Linux; elsewhere 0).
double waited_seconds() {
  double seconds = 0.0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream file(task.path() / "schedstat");
    double ran_ns = 0.0, waited_ns = 0.0;
    if (file >> ran_ns >> waited_ns) seconds += 1e-9 * waited_ns;
  }
  return seconds;
}

// The passes of one side in one round.
struct Block {
  std::vector<double> passes_ms;
  double waited = 0.0;  // share of the time
};
using Blocks = std::map<std::string, std::vector<Block>>;

Block run_block(Network& network, const Ids& ids, std::size_t passes, bool rest) {
  // Helper threads of the other side may still spin; the first pass brings our own data back.
  if (rest) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  network.run(ids);
  Block block;
  const double waited = waited_seconds();
  const Clock::time_point block_start = Clock::now();
  for (std::size_t i = 0; i < passes; ++i) {
    const Clock::time_point start = Clock::now();
    network.run(ids);
    block.passes_ms.push_back(1e3 * seconds_since(start));
  }
  block.waited = (waited_seconds() - waited) / seconds_since(block_start);
  return block;
}

Json summary(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"p10", quantile(values, 0.1)},
          {"p90", quantile(values, 0.9)},
          {"count", values.size()}};
}

// What others took from any side in a round.
double waited_share(const Blocks& sides, std::size_t round) {
  double most = 0.0;
  for (const auto& [name, blocks] : sides) most = std::max(most, blocks[round].waited);
  return most;
}

// The rounds in which nobody else took much; the calmest few, where those are fewer.
std::vector<std::size_t> rounds_to_count(const Blocks& sides) {
  std::vector<std::size_t> rounds(sides.begin()->second.size());
  std::iota(rounds.begin(), rounds.end(), std::size_t{0});
  std::sort(rounds.begin(), rounds.end(), [&](std::size_t a, std::size_t b) {
    return waited_share(sides, a) < waited_share(sides, b);
  });
  std::size_t calm = kMinRounds;
  while (calm < rounds.size() && waited_share(sides, rounds[calm]) <= kCalmShare) ++calm;
  rounds.resize(calm);
  return rounds;
}

// Medians of all passes; ratios per round, as neighbours in time share the machine's state.
Json times_json(const Blocks& sides, const std::string& ours) {
  const std::vector<std::size_t> rounds = rounds_to_count(sides);
  Json result = {{"rounds", sides.at(ours).size()},
                 {"rounds_counted", rounds.size()},
                 {"waited_share", waited_share(sides, rounds.back())}};
  for (const auto& [name, blocks] : sides) {
    std::vector<double> passes, ratios, waited;
    for (const std::size_t round : rounds) {
      const std::vector<double>& block = blocks[round].passes_ms;
      passes.insert(passes.end(), block.begin(), block.end());
      waited.push_back(blocks[round].waited);
      ratios.push_back(median(block) / median(sides.at(ours)[round].passes_ms));
    }
    result[name] = summary(passes);
    result[name]["waited_share"] = median(waited);
    if (name != ours) result[name]["ratio"] = summary(ratios);
  }
  return result;
}

// One length of the comparison.
struct Cell {
  Ids ids;
  std::size_t passes = 0;
  Json check;
  Blocks blocks;
};

std::size_t passes_per_block(const std::vector<Side>& sides, const Ids& ids) {
  double slowest = 0.0;
  for (const Side& side : sides) {
    const Clock::time_point start = Clock::now();
    side.network->run(ids);
    slowest = std::max(slowest, seconds_since(start));
  }
  return std::max(kMinPasses, static_cast<std::size_t>(kBlockSeconds / slowest));
}

}  // namespace

void compare(const CompareOptions& options) {
  const auto model = open_our_model(options.gguf, options.target);
  const std::size_t vocab = model->config().vocab, classes = model->config().classes;
  OurNetwork ours(model, options.ort.threads);
  OrtNetwork peer(options.ort, classes);
  OurNetwork lazy(model, options.ort.threads, true);
  std::vector<Side> sides = {{"ours", &ours}, {"onnxruntime", &peer}, {"ours_lazy", &lazy}};

  std::vector<Cell> cells(options.tokens.size());
  {
    OrtOptions exact = options.ort;
    exact.model = options.reference;
    std::unique_ptr<Network> reference;
    if (!options.reference.empty()) reference = std::make_unique<OrtNetwork>(exact, classes);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      std::vector<Ids> samples;
      for (std::uint32_t seed = 0; seed < kCheckedSamples; ++seed) {
        samples.push_back(random_ids(options.tokens[i], vocab, seed));
      }
      cells[i].ids = samples[0];
      cells[i].check = check(sides, reference ? *reference : peer, samples);
    }
  }
  // How much a second thread gives us is measured in the same run.
  std::unique_ptr<Network> one_thread;
  if (options.ort.threads > 1) {
    one_thread = std::make_unique<OurNetwork>(model, std::size_t{1});
    sides.push_back({"ours_one_thread", one_thread.get()});
  }
  for (Cell& cell : cells) cell.passes = passes_per_block(sides, cell.ids);

  const Peak* peak = find_peak(options.dtype, model->kernels().target);
  std::vector<double> peaks;
  const Clock::time_point start = Clock::now();
  for (std::size_t round = 0; round < kMinRounds || seconds_since(start) < options.seconds;
       ++round) {
    if (peak != nullptr) peaks.push_back(measure_peak(*peak, 10));
    for (Cell& cell : cells) {
      for (std::size_t turn = 0; turn < sides.size(); ++turn) {
        const Side& side = sides[(round + turn) % sides.size()];
        cell.blocks[side.name].push_back(
            run_block(*side.network, cell.ids, cell.passes, options.ort.threads > 1));
      }
    }
  }

  Json result = {{"target", model->kernels().target}, {"threads", options.ort.threads}};
  if (peak != nullptr) {
    result["peak"] = {{"name", peak->name}, {"operations_per_second", summary(peaks)}};
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    result["lengths"].push_back({{"tokens", options.tokens[i]},
                                 {"check", cells[i].check},
                                 {"milliseconds", times_json(cells[i].blocks, "ours")}});
  }
  std::printf("%s\n", result.dump(1).c_str());
}

}  // namespace splitee::bench

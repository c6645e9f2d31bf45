#include "bench/peers/compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
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
constexpr double kBlockSeconds = 0.05;      // of passes of one side, before it is the other's turn
constexpr std::size_t kMinPasses = 3;

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

// The times of every pass, and per round the median of the block.
struct Times {
  std::vector<double> passes_ms, blocks_ms;
};

void run_block(Network& network, const Ids& ids, std::size_t passes, bool rest, Times& times) {
  // Helper threads of the other side may still spin; the first pass brings our own data back.
  if (rest) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  network.run(ids);
  std::vector<double> block;
  for (std::size_t i = 0; i < passes; ++i) {
    const Clock::time_point start = Clock::now();
    network.run(ids);
    block.push_back(1e3 * seconds_since(start));
  }
  times.blocks_ms.push_back(median(block));
  times.passes_ms.insert(times.passes_ms.end(), block.begin(), block.end());
}

Json summary(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"p10", quantile(values, 0.1)},
          {"p90", quantile(values, 0.9)},
          {"count", values.size()}};
}

// Medians of all passes; ratios per round, as neighbours in time share the machine's state.
Json times_json(const std::map<std::string, Times>& times, const std::string& ours) {
  Json result;
  for (const auto& [name, side] : times) {
    result[name] = summary(side.passes_ms);
    if (name == ours) continue;
    std::vector<double> ratios;
    for (std::size_t round = 0; round < side.blocks_ms.size(); ++round) {
      ratios.push_back(side.blocks_ms[round] / times.at(ours).blocks_ms[round]);
    }
    result[name]["ratio"] = summary(ratios);
  }
  return result;
}

// One length of the comparison.
struct Cell {
  Ids ids;
  std::size_t passes = 0;
  Json check;
  std::map<std::string, Times> times;
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
  std::vector<Side> sides = {{"ours", &ours}, {"onnxruntime", &peer}};

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
  for (std::size_t round = 0; round < 3 || seconds_since(start) < options.seconds; ++round) {
    if (peak != nullptr) peaks.push_back(measure_peak(*peak, 10));
    for (Cell& cell : cells) {
      for (std::size_t turn = 0; turn < sides.size(); ++turn) {
        const Side& side = sides[(round + turn) % sides.size()];
        run_block(*side.network, cell.ids, cell.passes, options.ort.threads > 1,
                  cell.times[side.name]);
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
                                 {"milliseconds", times_json(cells[i].times, "ours")}});
  }
  std::printf("%s\n", result.dump(1).c_str());
}

}  // namespace splitee::bench

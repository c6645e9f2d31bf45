// What more cores than this machine has would make of a pass, by simulation on one of them:
//   virtual_threads --model=FILE [--tokens=16,32,64,128] [--threads=1,2,4,8] [--passes=N]
//                   [--start-us=0.5] [--take-us=0.1]
// Takes the place of runtime/thread_pool.cc. The pieces of a product are run one after the other,
// in the order in which workers would take them by the pool's rule (a fraction of their share of
// what is left), each timed and charged to the worker that is free first; a product takes as long
// as its last worker. What cannot be shared takes its time. A helper is charged --start-us until it
// sees a product, and each taking --take-us for the counter that all write. Not in it: memory and
// caches that cores share (weights over the machine's bandwidth are a limit of their own), clocks
// that fall when more cores work, and the system's scheduler. Thread rule: one thread.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/loader/loader.h"
#include "runtime/thread_pool.h"

namespace {

using Clock = std::chrono::steady_clock;

double start_us = 0.5, take_us = 0.1;
// By how much a pass would have been shorter so far.
double saved_us = 0;

double since_us(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

}  // namespace

namespace splitee::runtime {

// As many helpers as are asked for, none of which runs.
ThreadPool::ThreadPool(std::size_t threads) : cores_(threads) {
  helpers_.resize(std::max<std::size_t>(threads, 1) - 1);
}
ThreadPool::~ThreadPool() = default;

void ThreadPool::run_pieces(const Job& job) {
  const Clock::time_point begin = Clock::now();
  std::vector<double> free_at(threads(), start_us);
  free_at[0] = 0;
  double end = 0;
  for (std::size_t left = job.pieces; left != 0;) {
    const auto worker = std::min_element(free_at.begin(), free_at.end());
    const std::size_t taken = taken_of(left);
    const std::size_t first = job.pieces - left;
    const Clock::time_point piece = Clock::now();
    job.call(job.context, static_cast<std::size_t>(worker - free_at.begin()),
             job.count * first / job.pieces, job.count * (first + taken) / job.pieces);
    *worker += take_us + since_us(piece);
    end = std::max(end, *worker);
    left -= taken;
  }
  saved_us += since_us(begin) - end;
}

}  // namespace splitee::runtime

namespace splitee::bench {
namespace {

std::vector<std::size_t> numbers(const std::string& text) {
  std::vector<std::size_t> all;
  for (const char* at = text.c_str(); *at != '\0';) {
    char* end = nullptr;
    all.push_back(std::strtoul(at, &end, 10));
    if (end == at || all.back() == 0) {
      std::fprintf(stderr, "%s: not numbers with commas\n", text.c_str());
      std::exit(2);
    }
    at = *end == ',' ? end + 1 : end;
  }
  return all;
}

// Of one pass of all layers and the last exit, as it would be.
double pass_us(runtime::Engine& engine, runtime::PreparedView input,
               const runtime::NetworkInfo& info) {
  const double saved_before = saved_us;
  const Clock::time_point begin = Clock::now();
  const bool done = engine.begin(input).ok() && engine.run_to(info.layers()).ok();
  if (!done) std::exit(1);
  (void)engine.evaluate_exit(info.exits() - 1);
  return since_us(begin) - (saved_us - saved_before);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Options {
  std::string model;
  std::vector<std::size_t> tokens{16, 32, 64, 128}, threads{1, 2, 4, 8};
  std::size_t passes = 101;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (name == "--model")
      options.model = value;
    else if (name == "--tokens")
      options.tokens = numbers(value);
    else if (name == "--threads")
      options.threads = numbers(value);
    else if (name == "--passes")
      options.passes = numbers(value).at(0);
    else if (name == "--start-us")
      start_us = std::atof(value.c_str());
    else if (name == "--take-us")
      take_us = std::atof(value.c_str());
    else {
      std::fprintf(stderr, "%s: not an option; they are at the head of bench/virtual_threads.cc\n",
                   name.c_str());
      std::exit(2);
    }
  }
  return options;
}

int run(const Options& options) {
  auto network = runtime::open_network(options.model, *kernels::find_target(""));
  if (!network.ok()) {
    std::fprintf(stderr, "%s\n", network.status().message().c_str());
    return 1;
  }
  const runtime::NetworkInfo& info = (*network)->info();
  std::printf(
      "%s, kernels %s, weights %s; milliseconds a pass, and times one thread's\n\n| tokens |",
      options.model.c_str(), (*network)->kernels().target, info.dtype.c_str());
  for (const std::size_t threads : options.threads) std::printf(" %zu |", threads);
  std::printf("\n|---|");
  for (std::size_t i = 0; i < options.threads.size(); ++i) std::printf("---|");
  for (const std::size_t tokens : options.tokens) {
    const runtime::Prepared input = (*network)->random_input(std::min(tokens, info.max_length), 1);
    std::vector<std::unique_ptr<runtime::Engine>> engines;
    std::vector<std::vector<double>> times(options.threads.size());
    for (const std::size_t threads : options.threads) {
      engines.push_back((*network)->make_engine(threads));
    }
    for (std::size_t pass = 0; pass <= options.passes; ++pass) {
      for (std::size_t i = 0; i < engines.size(); ++i) {
        const double us = pass_us(*engines[i], input.view(), info);
        if (pass > 0) times[i].push_back(us);
      }
    }
    std::printf("\n| %zu |", tokens);
    const double one = median(times[0]);
    for (const std::vector<double>& of : times) {
      std::printf(" %.2f (%.2f) |", median(of) / 1e3, one / median(of));
    }
    std::fflush(stdout);
  }
  std::printf("\n");
  return 0;
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  return splitee::bench::run(splitee::bench::parse(argc, argv));
}

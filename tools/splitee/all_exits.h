// Runs a network on many samples, several at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"
#include "tools/common/sample_reader.h"
#include "tools/common/stop_signal.h"

namespace splitee::tools {

// All samples of a file, in order; - is standard input.
Result<std::vector<Sample>> read_all_samples(const std::string& path, InputFormat format,
                                             const runtime::NetworkInfo& info);

// Called once per sample, which the engine has just begun; by several threads at the same time, for
// different samples and each with its own engine.
using RunSample = std::function<Status(runtime::Engine& engine, std::size_t sample)>;

// `threads` samples are computed at the same time, on an engine each. Fails with the first error.
// `progress` shows progress also where nobody watches.
Status for_all_samples(const runtime::Network& network, std::span<const Sample> samples,
                       std::size_t threads, bool progress, const RunSample& run);

// Called once per sample with the probabilities of all its exits, (exits, classes); by several
// threads at the same time, for different samples.
using VisitSample = std::function<void(std::size_t sample, std::span<const float> probabilities)>;

// Every layer and every exit on all samples, as above.
Status for_all_exits(const runtime::Network& network, std::span<const Sample> samples,
                     std::size_t threads, bool progress, const VisitSample& visit);

// The same until a signal comes: the number of samples done, which are the first ones.
Result<std::size_t> for_all_exits_until(StopSignal& stop, const runtime::Network& network,
                                        std::span<const Sample> samples, std::size_t threads,
                                        bool progress, const VisitSample& visit);

}  // namespace splitee::tools

// Runs every layer and every exit on many samples, several at a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/status.h"
#include "tools/sample_reader.h"

namespace splitee::tools {

// All samples of a file, in order; - is standard input.
runtime::Result<std::vector<Sample>> read_all_samples(const std::string& path, InputFormat format,
                                                      const runtime::ModelConfig& config);

// Called once per sample with the probabilities of all its exits, (exits, classes); by several
// threads at the same time, for different samples.
using VisitSample = std::function<void(std::size_t sample, std::span<const float> probabilities)>;

// `threads` samples are computed at the same time, on an engine each. Fails with the first error
// of an engine. `progress` shows a progress line.
runtime::Status for_all_exits(std::shared_ptr<const runtime::Model> model,
                              std::span<const Sample> samples, std::size_t threads, bool progress,
                              const VisitSample& visit);

}  // namespace splitee::tools

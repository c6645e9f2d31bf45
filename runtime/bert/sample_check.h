// Whether a sample fits a model: what Engine and BatchEngine ask before they start one. Internal.
// Thread rule: pure functions. Errors: kInvalidArgument, naming the value and where it is.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "runtime/bert/model.h"

namespace splitee::runtime {

Status check_input(const ModelConfig& config, std::span<const std::int32_t> ids,
                   std::span<const std::int32_t> types);

Status check_activation(const ModelConfig& config, std::size_t layer, std::size_t tokens,
                        std::span<const float> activation);

}  // namespace splitee::runtime

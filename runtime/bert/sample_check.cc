#include "runtime/bert/sample_check.h"

#include <string>

#include "runtime/file/dequantize.h"

namespace splitee::runtime {
namespace {

Status invalid(const std::string& message) {
  return {Code::kInvalidArgument, message};
}

Status check_tokens(const ModelConfig& config, std::size_t tokens) {
  if (tokens >= 1 && tokens <= config.max_tokens) return {};
  return invalid(std::to_string(tokens) + " tokens; the model takes 1 to " +
                 std::to_string(config.max_tokens));
}

Status check_table_indices(std::span<const std::int32_t> indices, std::size_t entries,
                           const char* what) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || static_cast<std::size_t>(indices[i]) >= entries) {
      return invalid(std::string(what) + " " + std::to_string(indices[i]) + " at token " +
                     std::to_string(i) + " is not within 0 .. " + std::to_string(entries - 1));
    }
  }
  return {};
}

}  // namespace

Status check_input(const ModelConfig& config, std::span<const std::int32_t> ids,
                   std::span<const std::int32_t> types) {
  if (Status s = check_tokens(config, ids.size()); !s.ok()) return s;
  if (types.size() != ids.size()) {
    return invalid(std::to_string(ids.size()) + " token ids with " + std::to_string(types.size()) +
                   " token types");
  }
  if (Status s = check_table_indices(ids, config.vocab, "token id"); !s.ok()) return s;
  return check_table_indices(types, config.token_types, "token type");
}

Status check_activation(const ModelConfig& config, std::size_t layer, std::size_t tokens,
                        std::span<const float> activation) {
  if (layer > config.layers) {
    return invalid("layer " + std::to_string(layer) + " of a model with " +
                   std::to_string(config.layers));
  }
  if (Status s = check_tokens(config, tokens); !s.ok()) return s;
  if (activation.size() != tokens * config.hidden) {
    return invalid("an activation of " + std::to_string(activation.size()) + " values; " +
                   std::to_string(tokens) + " tokens of " + std::to_string(config.hidden) +
                   " are expected");
  }
  if (!all_finite(activation)) return invalid("the activation has a value that is not finite");
  return {};
}

}  // namespace splitee::runtime
